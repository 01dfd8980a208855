"""Whether there is an installation where a command was started: one that only asks must not make another."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from controlplane.commands import BEGINNERS, NAMES
from controlplane.env import SQLITE_NAME, given_values
from controlplane.env_problems import BadEnvironment

OF_FRAMEWORK = ("createsuperuser", "changepassword", "clearsessions", "dbshell", "dumpdata", "flush", "loaddata")
NEEDY = (NAMES - BEGINNERS) | frozenset(OF_FRAMEWORK)


def missing(words: Sequence[str]) -> str | None:
    """Return what to say when the command needs an installation and there is none, else None.

    A database that is named with DATABASE_URL is taken at its word. Wrong settings are the settings' to tell.
    """
    values = _values()
    if not values or wants_none(words) or words[0] not in NEEDY:
        return None
    var_dir = values["var_dir"].resolve()
    if words[0] == "stop":  # asks the supervisor only, whatever its database is
        what = None if var_dir.is_dir() else f"there is no folder {var_dir}."
    elif values["database_url"] or (var_dir / SQLITE_NAME).exists():
        what = None
    else:
        what = f"there is no {var_dir / SQLITE_NAME}, and DATABASE_URL is not set."
    return what and (
        f"There is no installation here: {what} Go to the folder that it was started in, or name its var folder with "
        "CONTROLPLANE_VAR, or its database with DATABASE_URL. `controlplane up` starts a new one here."
    )


def wants_none(words: Sequence[str]) -> bool:
    """Say whether only help is asked for, or what is the same everywhere."""
    return (
        not words
        or words[0] in ("help", "version", "--version")
        or any(word in ("-h", "--help") for word in words)
        or list(words[:2]) == ["export", "schema"]
    )


@contextmanager
def nothing_left(words: Sequence[str]) -> Iterator[None]:
    """Let the settings have a var folder for as long as the command runs, where there is none and it begins none.

    So with help, and with what is no command of ours: a mistyped word, or the framework's where no database is named.
    """
    values, is_help = _values(), wants_none(words)
    is_ours = not is_help and (words[0] in NAMES or values.get("database_url"))
    if not values or is_ours or values["var_dir"].exists():
        yield
        return
    with TemporaryDirectory() as folder:
        os.environ["CONTROLPLANE_VAR"] = folder
        yield


def _values() -> dict[str, Any]:
    """Return what the settings are made from, nothing when they are wrong."""
    try:
        return given_values(os.environ)
    except BadEnvironment:
        return {}
