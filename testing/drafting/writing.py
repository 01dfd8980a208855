"""A document as YAML that reads back as what it was, in the form a person would have written it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

WIDEST = 1 << 20  # never folded: a line is what it says
SHORTEST_BLOCK = 2  # lines from which a text stands as a block
# What reads as itself in the core schema and in YAML 1.1; everything else is quoted.
BARE = re.compile(r"[A-Za-z][A-Za-z0-9_/.-]*(?: [A-Za-z0-9_/.-]+)*")
WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])


class Line(dict[str, Any]):
    """An object that stands in one line, in braces."""


class Row(list[Any]):
    """A list that stands in one line, in brackets."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's, but for what it would leave bare that YAML 1.2 reads as something else, such as `1e3`."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    is_bare = BARE.fullmatch(text) and text.lower() not in WORDS
    is_block = text.count("\n") >= SHORTEST_BLOCK and not text.isspace()
    style = None if is_bare else "|" if is_block else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _line(dumper: _Dumper, value: Line) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=True)


def _row(dumper: _Dumper, value: Row) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Row, _row)
_Dumper.add_representer(Line, _line)


def write(document: Mapping[str, Any], remarks: Iterable[str]) -> str:
    """Return the text of a document below its remarks, each a comment of one line."""
    text = yaml.dump(
        dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDEST, default_flow_style=False
    )
    return "".join(f"# {_one_line(remark)}\n" for remark in remarks) + text


def _one_line(remark: str) -> str:
    """Return a remark that ends where its line does, and holds no reference."""
    return " ".join("".join(char if char.isprintable() else " " for char in remark).split()).replace("${{", "$ {{")
