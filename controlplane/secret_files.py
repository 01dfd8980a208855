"""Secrets that development makes up for itself: made once, kept in the var directory, readable by the owner only."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet


def secret_key_file(var_dir: Path) -> str:
    """Return the installation's own SECRET_KEY, made on first use."""
    return kept(var_dir / "secret-key", lambda: secrets.token_urlsafe(48))


def encryption_keys_file(var_dir: Path) -> str:
    """Return the installation's own encryption keys, made on first use."""
    return kept(var_dir / "encryption-keys", lambda: f"dev1:{Fernet.generate_key().decode()}")


def kept(path: Path, make: Callable[[], str]) -> str:
    """Return the secret in `path`, which exactly one of any number of racing processes writes.

    The file is written under another name and then linked: a link fails when the
    name is taken, so nobody ever reads a half-written secret or overwrites one.
    """
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(make() + "\n")
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first: its secret is the one
    finally:
        draft.unlink()
    return path.read_text().strip()
