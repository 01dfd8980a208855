"""The one entry of every command: `controlplane NAME` and `python manage.py NAME`."""

import os
import sys


def main() -> None:
    """Run the command named on the command line; exit codes are stated in its `--help`.

    A database that does not answer, or was never set up, is 2 and a sentence, unless `--traceback` asks for more.
    So is an installation that is not here.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    from django.db import OperationalError, ProgrammingError

    from controlplane.commands import NAMES, SERVICES, Commands
    from controlplane.database_trouble import explain, fail_soon
    from controlplane.installation import missing, nothing_left

    commands, words = Commands(sys.argv), sys.argv[1:]
    if told := missing(words):
        sys.stderr.write(f"{told}\n")
        sys.exit(2)
    try:
        with nothing_left(words):
            if words and words[0] in NAMES - SERVICES:
                fail_soon()
            commands.execute()
    except (OperationalError, ProgrammingError) as error:  # ProgrammingError: PostgreSQL's word for a missing table
        told = None if "--traceback" in sys.argv else explain(error)
        if told is None:
            raise
        sys.stderr.write(f"{told}\n")
        sys.exit(2)
