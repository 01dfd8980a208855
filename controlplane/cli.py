"""The one entry of every command: `controlplane NAME` and `python manage.py NAME`."""

import os
import sys


def main() -> None:
    """Run the command named on the command line; exit codes are stated in its `--help`."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
