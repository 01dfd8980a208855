"""`controlplane help` names the product's commands, each with what it is for, before the framework's."""

from pathlib import Path

import pytest

from controlplane.commands import NAMES
from tests.stack import environment, run


def told(tmp_path: Path, *words: str) -> list[str]:
    done = run([*words], environment(tmp_path / "var", ""))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("words", [(), ("help",), ("--help",)], ids=str)
def test_help_lists_our_commands_with_a_line_each(words: tuple[str, ...], tmp_path: Path) -> None:
    """Nobody has to know which of sixty names are meant for them."""
    lines = told(tmp_path, *words)

    listed = dict(line.split(maxsplit=1) for line in lines if line.startswith("  "))
    assert set(listed) == NAMES
    assert listed["status"] == "Say whether all is well"
    assert "Send and find" in lines
    assert max(map(len, lines)) <= 100
    assert "makemigrations" not in "\n".join(lines)
    assert lines[-1].endswith("`controlplane help --all`.")


def test_help_all_has_the_framework_s_commands_behind_ours(tmp_path: Path) -> None:
    text = "\n".join(told(tmp_path, "help", "--all"))

    assert text.index("  send ") < text.index("Of the framework") < text.index("makemigrations")


def test_shells_still_get_every_name(tmp_path: Path) -> None:
    """Django's own switch, one name a line."""
    assert {"send", "makemigrations"} <= set(told(tmp_path, "help", "--commands"))


def test_help_of_one_command_is_its_own(tmp_path: Path) -> None:
    assert "--payload" in "\n".join(told(tmp_path, "help", "send"))
