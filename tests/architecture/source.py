"""Our own source, read with `ast`: what each module imports, calls and catches."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
APPS = ("controlplane", "testing", "messaging", "endpoints")


@dataclass(frozen=True)
class Module:
    """A file of ours; `name` is dotted, as in an import."""

    name: str
    text: str
    path: str = ""

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def app(self) -> str:
        return self.name.split(".")[0]

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Return (line, dotted name) of every import, also those inside functions; type-only ones do not count."""
        found = []
        for node in _run_time(self.tree):
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        return found


def _run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the tree, leaving out what stands under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run_time(child)


def our_modules(*folders: str) -> list[Module]:
    """Return every module below `folders` (default: the apps), but for migrations."""
    found = []
    for folder in folders or APPS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(name, path.read_text(), str(path.relative_to(ROOT))))
    return found


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` of names joined by dots, "" of anything else."""
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return node.id if isinstance(node, ast.Name) else ""
