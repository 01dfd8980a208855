"""What the quickstart example needs from us: a key of its own, in a database that is its own."""

from pathlib import Path

from controlplane.first_admin import write_private
from endpoints.access.principal import COMMAND
from endpoints.models import ApiKey, System
from endpoints.services import create_api_key

TAG = "example"
NAME = "quickstart example"
LOOKED_AT = 200


def prepare(var_dir: Path) -> str | None:
    """Write the example's key to `var/run/example-key`; return why not, when the database is somebody's own."""
    tags = list(System.objects.values_list("tags", flat=True)[:LOOKED_AT])
    if tags and not any(TAG in found for found in tags):
        return "this database has systems of its own."
    path = var_dir / "run" / "example-key"
    if not path.exists() or not ApiKey.objects.filter(name=NAME, revoked_at__isnull=True).exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _, key = create_api_key(NAME, "editor", by=COMMAND)
        write_private(path, key)
    return None
