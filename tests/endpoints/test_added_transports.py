"""Protocols that packages bring by entry point: found, played by the suite, sent with, and harmless when broken."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stack import ROOT, Stack, environment

EXAMPLE = ROOT / "examples" / "custom_transport"


def install(into: Path, name: str = "serial-link", points: str = "serial = serial_link:SerialTransport") -> Path:
    """Install a package as an installer does: its modules, and the metadata that names its entry points."""
    into.mkdir(parents=True, exist_ok=True)
    (into / "serial_link.py").write_text((EXAMPLE / "serial_link.py").read_text())
    metadata = into / f"{name.replace('-', '_')}-1.0.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text(f"[controlplane.transports]\n{points}\n")
    return into


def ask(tmp_path: Path, packages: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these packages installed as well."""
    env = environment(tmp_path / "var", f"sqlite:///{tmp_path}/db.sqlite3", PYTHONPATH=f"{packages}{os.pathsep}{ROOT}")
    return subprocess.run([sys.executable, *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


def test_the_example_passes_the_suite_as_its_author_runs_it(tmp_path: Path) -> None:
    packages = install(tmp_path / "site")
    env = environment(tmp_path / "var", "sqlite://", PYTHONPATH=f"{packages}{os.pathsep}{ROOT}")
    tests = tmp_path / "project"
    tests.mkdir()
    (tests / "test_serial_link.py").write_text((EXAMPLE / "test_serial_link.py").read_text())
    (tests / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tests,
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_what_the_example_declares_is_what_is_installed_here(tmp_path: Path) -> None:
    """The entry point that `install` writes is the one of the example's pyproject.toml."""
    import tomllib

    declared = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    assert declared["entry-points"]["controlplane.transports"] == {"serial": "serial_link:SerialTransport"}
    assert declared["name"] == "serial-link"


@pytest.mark.parametrize(
    ("points", "protocol", "reason"),
    [
        ("broken = nowhere_at_all:Thing", "broken", "cannot be loaded: ModuleNotFoundError"),
        ("broken = serial_link:encode", "broken", "is no Transport"),
        ("broken = endpoints.transports.base:Transport", "broken", "does not implement aclose, open, probe, send"),
        ("http = serial_link:SerialTransport", "http", "is one of ours, which is used"),
        ("Bad_Name = serial_link:SerialTransport", "Bad_Name", "has no name that a protocol can have"),
    ],
)
def test_a_package_that_cannot_be_used_is_named_and_takes_nothing_down(
    tmp_path: Path, points: str, protocol: str, reason: str
) -> None:
    packages = install(tmp_path / "site", "odd-package", f"{points}\nserial = serial_link:SerialTransport")
    checked = ask(tmp_path, packages, "manage.py", "check")
    words = "from endpoints.transports import protocols, transport_class as t; import json; "
    told = ask(tmp_path, packages, "manage.py", "shell", "-c", words + "print(protocols(), t('http'), t('serial'))")

    assert checked.returncode == 0, checked.stderr
    assert f"Protocol '{protocol}' of package 'odd-package' {reason}" in checked.stdout + checked.stderr
    assert "'serial'" in told.stdout
    assert "HttpTransport" in told.stdout
    assert ("'broken'" in told.stdout, "'Bad_Name'" in told.stdout) == (False, False)


def test_a_message_goes_out_over_a_protocol_that_a_package_brought(
    make_stack: Callable[..., Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered over REST, shown in the admin, delivered by the same engine with the same history."""
    packages = install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from test_serial_link import Device

    from tests.acceptance.link import Link

    stack = make_stack(PYTHONPATH=f"{packages}{os.pathsep}{ROOT}")
    stack.start("web")
    stack.start("deliver")
    with Device() as device:
        link = Link(stack, f"serial://127.0.0.1:{device.port}", config={"unit": 7})
        found = link.ended(link.send(payload={"n": 1}))
    refused = stack.api(
        "POST",
        "endpoints/",
        json={"system": link.target, "protocol": "serial", "host": "127.0.0.1", "port": 1, "config": {"units": 7}},
    )

    assert (found["state"], found["ack_level"]) == ("delivered", "application")
    assert device.payloads == [b'\x07{"n":1}']
    assert refused.status_code == 400
    assert "did you mean 'unit'" in refused.text
