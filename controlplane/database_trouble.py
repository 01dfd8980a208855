"""What a command says, instead of a traceback, when the database does not answer or was never set up."""

import logging

import psycopg
from django.conf import settings
from django.db import DatabaseError, connection
from psycopg_pool import PoolTimeout

from controlplane import schema
from controlplane.logs import POOL

# Classes of SQLSTATE: connection, login, no such database, full, shut down.
OF_THE_SERVER = frozenset(("08", "28", "3D", "53", "57"))
SOON_S = 2


def fail_soon() -> None:
    """Let a command that somebody waits for say within seconds that the database is away, and only once."""
    if pool := settings.DATABASES["default"].get("OPTIONS", {}).get("pool"):
        pool["timeout"] = SOON_S
        logging.getLogger(POOL).addFilter(lambda _record: False)


def reason(error: DatabaseError) -> str:
    """Return in one line why the database does not answer: the pool knows only that it waited, a try of ours more."""
    first = str(error).splitlines()[0]
    if not isinstance(error.__cause__, PoolTimeout):
        return first
    try:
        psycopg.connect(**(connection.get_connection_params() | {"connect_timeout": SOON_S})).close()
    except psycopg.Error as exc:
        return str(exc).splitlines()[0]
    return first


def explain(error: DatabaseError) -> str | None:
    """Return what is wrong with the database and what to do, None when the error is about something else.

    Which database it was is said without its password.
    """
    if _is_of_the_server(error):
        return f"The database {_name()} does not answer: {reason(error)}. Start it, or correct DATABASE_URL."
    missing = schema.pending()
    if not missing:
        return None
    return (
        f"The database {_name()} is not set up for this version, {len(missing)} migrations are missing. "
        "`controlplane up` sets it up and starts, `controlplane migrate` does only the first. "
        "If another one is meant, name it with DATABASE_URL, or the folder it is in with CONTROLPLANE_VAR."
    )


def _is_of_the_server(error: DatabaseError) -> bool:
    """Say whether the database, not the statement, is at fault: unreachable, locked, full, read-only."""
    cause = error.__cause__
    if name := getattr(cause, "sqlite_errorname", ""):
        return bool(name != "SQLITE_ERROR")
    state = getattr(cause, "sqlstate", "")
    return state is None or state[:2] in OF_THE_SERVER


def _name() -> str:
    database = settings.DATABASES["default"]
    host, port = database.get("HOST"), database.get("PORT")
    return f"{host}{f':{port}' if port else ''}/{database['NAME']}" if host else str(database["NAME"])
