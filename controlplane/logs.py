"""How we log: an event with fields; JSON lines in production, readable lines elsewhere, never a secret."""

import logging
import os
import re
import sys
import time
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

SECRET_FIELD = re.compile(r"password|secret|token|authorization|cookie|api_?key|credential_data|payload", re.IGNORECASE)
# Keys of ours and bearer tokens are masked wherever a sentence of a library quotes one.
SECRET_TEXT = re.compile(r"cp_[0-9a-f]{32}_[\w-]+|(?i:bearer )[\w.~+/=-]+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")

POOL = "psycopg.pool"
FOREIGN_HOST, SOCKETS = "django.security.DisallowedHost", "uvicorn.error"
FILTERS = {POOL: ["seldom"], FOREIGN_HOST: ["by peers"], SOCKETS: ["by peers"]}
SELDOM_S, MOST_WORDS = 60.0, 100


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace what must not be in a log; the last line of defence, not the first."""
    for name, value in event.items():
        if SECRET_FIELD.search(name):
            event[name] = "***"
        elif isinstance(value, str) and SECRET_TEXT.search(value):
            event[name] = SECRET_TEXT.sub("***", value)
    return event


SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def renderers(as_json: bool) -> list[Any]:
    """Return the last processors: one JSON object or one readable line per event."""
    tail: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        return [*tail, structlog.processors.format_exc_info, mask, structlog.processors.JSONRenderer()]
    colours = sys.stderr.isatty() or os.environ.get("FORCE_COLOR") == "1"
    # Plain tracebacks: the pretty ones print local variables, and those hold payloads and secrets.
    plain = structlog.dev.plain_traceback
    return [*tail, mask, structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain, pad_event_to=0)]


def configure(log_format: str, level: str, environment: str) -> dict[str, Any]:
    """Set structlog up and return Django's LOGGING, so that libraries' logs look like ours."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    as_json = log_format == "json" or (log_format == "auto" and environment == "production")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "event": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": renderers(as_json),
                "foreign_pre_chain": SHARED,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "event"}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "filters": {"seldom": {"()": Seldom}, "by peers": {"()": ByPeers}},
        "loggers": {
            name: {"handlers": [], "level": at, "propagate": True, "filters": FILTERS.get(name, [])}
            for name, at in _levels(level).items()
        },
    }


class Seldom(logging.Filter):
    """Lets the same words through once a minute: a pool says at each try that it cannot connect."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        words, now = self.words(record), time.monotonic()
        is_new = now - self._said_at.get(words, float("-inf")) >= SELDOM_S
        if is_new:
            if len(self._said_at) >= MOST_WORDS:
                self._said_at.clear()
            self._said_at[words] = now
        return is_new

    def words(self, record: logging.LogRecord) -> str:
        return record.getMessage()


class ByPeers(Seldom):
    """Makes a warning of what any peer brings about without a key, with no stack of ours, and seldom."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name != FOREIGN_HOST and not (record.exc_info and record.exc_info[0] is UnicodeDecodeError):
            return True
        record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
        return super().filter(record)

    def words(self, record: logging.LogRecord) -> str:
        return record.name  # not those of the peer, which may differ each time


def _levels(level: str) -> dict[str, str]:
    """Return the levels of libraries that talk more than they say; DEBUG is for our own loggers."""
    quiet = "INFO" if level == "debug" else "WARNING"
    return {
        "asyncio": "WARNING",
        "celery": quiet,
        "daphne": quiet,
        "django": "INFO" if level == "debug" else level.upper(),
        "django.db.backends": "INFO",
        FOREIGN_HOST: "WARNING",
        "django.server": quiet,
        "kombu": "WARNING",
        POOL: "WARNING",
        "uvicorn": quiet,
        "uvicorn.access": "WARNING",
        SOCKETS: quiet,
    }
