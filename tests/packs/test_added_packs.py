"""Packs that packages bring by entry point: listed as ours are, and harmless when they are broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.stack import ROOT, environment

ROW = """
from testing.packs import Pack, PackTarget

PACK = Pack(about="Orders are taken.", targets={"api": PackTarget(("http",), "takes orders")})
OTHER = 7
"""
SUITE = """\
suite: warehouse
labels: ["pack:warehouse"]
systems: {api: warehouse}
cases:
  - case: taken
    steps: [{http: {system: api}, assert: [{status: {eq: 200}}]}]
"""
POINTS = """\
warehouse = warehouse_pack:PACK
communication = warehouse_pack:PACK
gone = nowhere_at_all:PACK
number = warehouse_pack:OTHER
unlabelled = warehouse_pack:PACK
faulty = faulty_pack:PACK
empty = empty_pack:PACK
"""


def install(into: Path) -> Path:
    """Install packages as an installer does: their modules, and the metadata that names the entry points."""
    for name, text in (("warehouse", SUITE), ("faulty", SUITE.replace("eq:", "eqq:")), ("empty", "")):
        package = into / f"{name}_pack"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(ROW)
        if text:
            (package / "suite.yaml").write_text(text)
    metadata = into / "some_packs-1.0.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: some-packs\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text(f"[controlplane.packs]\n{POINTS}")
    return into


def test_packs_of_packages_are_listed_and_bad_ones_are_named(tmp_path: Path) -> None:
    """Ours keeps its name; each that cannot be used is told with its reason, and the others are there all the same."""
    path = os.pathsep.join((str(install(tmp_path / "site")), str(ROOT)))
    env = environment(tmp_path / "var", f"sqlite:///{tmp_path}/db.sqlite3", PYTHONPATH=path)
    words = (
        "import json; from testing.packs.documents import everything, find, unusable; "
        "print(json.dumps([[each.name, each.pack.about] for each in everything()])); print(json.dumps(unusable()))"
    )
    told = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", words],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert told.returncode == 0, told.stderr
    listed, unusable = (json.loads(line) for line in told.stdout.splitlines() if line.startswith("["))
    about = dict(listed)
    assert about["warehouse"] == "Orders are taken."
    assert about["communication"] != about["warehouse"]
    assert not {"gone", "number", "unlabelled", "faulty", "empty"} & set(about)
    reasons = (
        "pack 'empty' of package 'some-packs' has no suite.yaml",
        "pack 'faulty' of package 'some-packs' has a bad suite: line 6",
        "pack 'gone' of package 'some-packs' cannot be loaded: ModuleNotFoundError",
        "pack 'number' of package 'some-packs' is no Pack",
        "pack 'unlabelled' of package 'some-packs' lacks the label 'pack:unlabelled'",
    )
    assert len(unusable) == len(reasons)
    assert all(line.startswith(reason) for line, reason in zip(sorted(unusable), reasons, strict=True)), unusable
