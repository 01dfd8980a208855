"""How the text of an environment variable becomes a value; each reader raises ValueError with the rule it broke."""

import base64
import binascii
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from urllib.parse import parse_qs, urlsplit

import environ

from endpoints.addresses import parse_zones

BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,16}")
DATABASES = ("sqlite", "postgres", "postgresql")


def boolean(text: str) -> bool:
    """Read true or false."""
    try:
        return BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError("use true or false") from None


def words(text: str) -> list[str]:
    """Read a comma list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def choice(*allowed: str) -> Callable[[str], str]:
    """Return the reader of one of `allowed`."""

    def read(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"use one of {', '.join(allowed)}")
        return text.lower()

    return read


def subset(*allowed: str) -> Callable[[str], list[str]]:
    """Return the reader of a comma list drawn from `allowed`."""

    def read(text: str) -> list[str]:
        if unknown := [word for word in words(text) if word not in allowed]:
            raise ValueError(f"'{unknown[0]}' is none of {', '.join(allowed)}")
        return words(text)

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """Return the reader of a number within low..high."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"use a number from {low:g} to {high:g}") from None
        if not low <= value <= high:
            raise ValueError(f"use a number from {low:g} to {high:g}")
        return value

    return read


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return the reader of a whole number within low..high."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"use a whole number from {low} to {high}")
        return int(text)

    return read


def url(*schemes: str) -> Callable[[str], str]:
    """Return the reader of a URL of one of `schemes`, or of nothing."""

    def read(text: str) -> str:
        if text and urlsplit(text).scheme not in schemes:
            raise ValueError(f"use a URL that starts with {', '.join(s + '://' for s in schemes)}")
        return text

    return read


def http_url(text: str) -> str:
    """Read `http(s)://host[:port][/path]`, or nothing; a port must be a port."""
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.port == 0):
        raise ValueError("use http://host[:port] or https://host[:port]")
    return text.rstrip("/")


def networks(text: str) -> list[str]:
    """Read a comma list of CIDR."""
    return [str(ip_network(word)) for word in words(text)]


def zones(text: str) -> list[str]:
    """Read a comma list of `CIDR[:port]`, IPv6 with a port as `[CIDR]:port`."""
    parse_zones(words(text))
    return words(text)


def zone_network(zone: str) -> IPv4Network | IPv6Network:
    """Return the network of a zone."""
    return parse_zones([zone])[0].network


def encryption_keys(text: str) -> list[str]:
    """Read `<key id>:<Fernet key>,...`; ids are unique, keys are 32 bytes in URL-safe base64."""
    seen: set[str] = set()
    for number_, entry in enumerate(words(text), start=1):
        key_id, _, key = entry.partition(":")
        if not KEY_ID.fullmatch(key_id) or key_id in seen:
            raise ValueError(f"entry {number_}: the key id must be 1 to 16 letters, digits, - or _, and unique")
        seen.add(key_id)
        try:
            size = len(base64.b64decode(key.encode(), altchars=b"-_", validate=True))
        except (binascii.Error, UnicodeEncodeError):
            size = 0
        if size != 32:
            raise ValueError(f"entry {number_} ('{key_id}'): the key must be 32 bytes in URL-safe base64")
    return words(text)


def database_url(text: str) -> str:
    """Read a database URL of an engine we support."""
    if not text:
        return text
    if urlsplit(text).scheme not in DATABASES:
        raise ValueError("use sqlite:///path or postgresql://user:password@host:port/name")
    database_config(text, "full")
    return text


def database_config(text: str, sqlite_synchronous: str) -> dict[str, Any]:
    """Return Django's DATABASES entry with the options each engine needs to be safe and quick."""
    config: dict[str, Any] = dict(environ.Env.db_url_config(text))
    if not config.get("NAME"):
        raise ValueError("the URL names no database")
    if config["ENGINE"].endswith("sqlite3"):
        config["ENGINE"] = "controlplane.sqlite3"
        config["OPTIONS"] = sqlite_options(sqlite_synchronous)
        # Threads and processes of a test share it as they would in service; an in-memory one cannot be shared.
        config["TEST"] = {"NAME": f"{config['NAME']}.test"}
        return config
    # Each request and thread has its own connection under ASGI; only a pool keeps their number bounded, and it
    # wants connections to go back after each use.
    config["CONN_MAX_AGE"] = 0
    config["CONN_HEALTH_CHECKS"] = True  # a restarted server must not cost an answer
    # Which statements are prepared is said where they are written: a plan that was made for an empty table must
    # not be kept for one whose rows decide it. Without a threshold the driver prepares none at all.
    prepared = {"prepare_threshold": NEVER_BY_ITSELF}
    pool = {"min_size": 1, "max_size": 12, "timeout": 10}
    given = config.get("OPTIONS", {})
    session = {"options": f"{SESSION} {given.get('options', '')}".rstrip()}  # whoever runs it has the last word
    config["OPTIONS"] = {**prepared, **given, **session, "pool": pool}
    return config


NEVER_BY_ITSELF = 2**31
SESSION = " ".join(
    (
        # A process that is frozen within a transaction must not keep the intake's lock from all the others.
        "-c idle_in_transaction_session_timeout=30s",
        # Compiling takes longer than any of our statements does, and where the planner expects many rows it is done
        # each time.
        "-c jit=off",
    )
)


def sqlite_options(synchronous: str) -> dict[str, Any]:
    """Return what makes SQLite safe with many processes: WAL, writers that wait, fsync before the answer."""
    pragmas = {
        "journal_mode": "WAL",
        "synchronous": synchronous.upper(),
        "foreign_keys": "ON",
        "cache_size": "-32768",
        "temp_store": "MEMORY",
        "mmap_size": "268435456",
        "wal_autocheckpoint": "4000",  # pages; the same few hot ones need not be written back several times a second
    }
    return {
        "transaction_mode": "IMMEDIATE",  # DEFERRED fails at once when a reader turns writer
        "timeout": 20,
        "cached_statements": 256,  # those that insert are many: one for each number of rows, up to a few
        "init_command": " ".join(f"PRAGMA {name}={value};" for name, value in pragmas.items()),
    }


def weak_durability(text: str, sqlite_synchronous: str) -> str | None:
    """Return what about the database settings loses acknowledged messages with the power, if anything."""
    parts = urlsplit(text)
    if parts.scheme == "sqlite":
        if sqlite_synchronous not in ("full", "extra"):
            return f"synchronous={sqlite_synchronous} loses acknowledged messages when the power fails"
        return "an in-memory database is gone with its process" if ":memory:" in text else None
    options = " ".join(parse_qs(parts.query).get("options", []))
    if re.search(r"(synchronous_commit|fsync)\s*=\s*(off|false|0|local)", options):
        return "the connection options turn durable commits off"
    return None
