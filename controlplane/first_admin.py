"""The first person: made once, with a random password in a file, and let in by a link that works once."""

import os
import secrets
from pathlib import Path

from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

NAME = "admin"


def ensure_admin(var_dir: Path) -> str | None:
    """Create the first superuser unless there is one; return the one-time login path while nobody has logged in."""
    users = User.objects
    user = users.filter(is_superuser=True).order_by("pk").first()
    if user is None:
        password = secrets.token_urlsafe(12)
        write_private(var_dir / "admin-password", password)
        user = users.create_superuser(username=NAME, email="", password=password)
    return login_path(user) if user.last_login is None and user.get_username() == NAME else None


def login_path(user: User) -> str:
    """Return a path that logs `user` in once: the token is bound to the last login, which using it changes."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    return reverse("login-link", args=[uid, default_token_generator.make_token(user)])


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from the first byte on."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
