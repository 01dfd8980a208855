"""Run a role of the control plane and write down what it asks the database.

    python -m tests.acceptance.counting FILE deliver

SQLite tells each statement it runs, PostgreSQL's client each it sends. The product
knows nothing of it.
"""

import os
import sys
from typing import Any


def main(path: str, role: str) -> None:
    """Trace every connection of this process from its beginning on, and run the role as its own command would."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    import django

    django.setup()
    from django.core.management import execute_from_command_line
    from django.db.backends.signals import connection_created

    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def trace(sender: object, connection: Any, **more: object) -> None:
        if connection.vendor == "sqlite":
            connection.connection.set_trace_callback(lambda text: os.write(file, f"{text[:2000]!r}\n".encode()))
        else:
            connection.connection.pgconn.trace(file)

    connection_created.connect(trace)
    execute_from_command_line(["controlplane", role])


if __name__ == "__main__":
    main(*sys.argv[1:])
