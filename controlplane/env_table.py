"""The table of every variable that the control plane reads: name, type, default, and what it is for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane import env_types as types

DEVELOPMENT, STAGING, PRODUCTION = "development", "staging", "production"


@dataclass(frozen=True)
class Variable:
    """One row: the variable's name, the Environment field it fills, how it is read, and what it is for."""

    name: str
    field: str
    parse: Callable[[str], Any]
    default: str
    help: str
    secret: bool = False


VARIABLES = (
    Variable(
        "CONTROLPLANE_ENVIRONMENT",
        "environment",
        types.choice(DEVELOPMENT, STAGING, PRODUCTION),
        DEVELOPMENT,
        "The profile. Staging and production want every secret given; production refuses unsafe settings.",
    ),
    Variable("CONTROLPLANE_VAR", "var_dir", Path, "var", "Where files of this installation are kept."),
    Variable("CONTROLPLANE_DEBUG", "debug", types.boolean, "false", "Django's DEBUG; never in production."),
    Variable("SECRET_KEY", "secret_key", str, "", "Signs sessions and links; 50 random characters.", secret=True),
    Variable(
        "CONTROLPLANE_ENCRYPTION_KEYS",
        "encryption_keys",
        types.encryption_keys,
        "",
        "Comma list of `<key id>:<Fernet key>`, newest first; encrypts stored secrets.",
        secret=True,
    ),
    Variable(
        "CONTROLPLANE_PUBLIC_URL",
        "public_url",
        types.http_url,
        "http://127.0.0.1:8000",
        "Where people and programs reach this: hosts, CSRF, cookies, links. Development: where `up` listens.",
    ),
    Variable("CONTROLPLANE_ALLOWED_HOSTS", "extra_hosts", types.words, "", "More host names to answer to."),
    Variable(
        "CONTROLPLANE_ALLOW_HTTP",
        "allow_http",
        types.boolean,
        "false",
        "Accept an http:// public URL in production (TLS is ended elsewhere, and you know where).",
    ),
    Variable(
        "TRUSTED_PROXIES", "trusted_proxies", types.networks, "", "Comma list of CIDR whose X-Forwarded-* counts."
    ),
    Variable("DATABASE_URL", "database_url", types.database_url, "", "sqlite:///path or postgresql://...", secret=True),
    Variable(
        "CONTROLPLANE_SQLITE_SYNCHRONOUS",
        "sqlite_synchronous",
        types.choice("off", "normal", "full", "extra"),
        "full",
        "SQLite's synchronous pragma; below full an acknowledged message can be lost with the power.",
    ),
    Variable(
        "CELERY_BROKER_URL",
        "broker_url",
        types.url("redis", "rediss", "amqp", "amqps"),
        "",
        "Optional broker of the worker; without one the worker keeps its own clock.",
        secret=True,
    ),
    Variable("REDIS_URL", "redis_url", types.url("redis", "rediss"), "", "Read, and not used yet.", secret=True),
    Variable(
        "CONTROLPLANE_EGRESS_ZONES",
        "egress_zones",
        types.zones,
        "",
        "Comma list of `CIDR[:port]` that deliveries may reach although they are not public. "
        "Development default: loopback and private networks.",
    ),
    Variable("CONTROLPLANE_PYTHON_MODULES", "python_modules", types.words, "", "Modules whose hooks suites may run."),
    Variable(
        "CONTROLPLANE_LEASE_S",
        "lease_s",
        types.number(1, 3600),
        "30",
        "How long a claimed delivery is one worker's own; a dead worker's come back after it.",
    ),
    Variable(
        "CONTROLPLANE_CONNECTIONS_PER_ADDRESS",
        "connections_per_address",
        types.integer(1, 10**6),
        "5000",
        "WebSockets, and as many calls that wait at an inbox or for an outcome, of one address at a web process; "
        "behind a proxy see TRUSTED_PROXIES.",
    ),
    Variable(
        "CONTROLPLANE_CONNECTIONS_PER_KEY",
        "connections_per_key",
        types.integer(1, 10**6),
        "2000",
        "The same of one API key, token or signed-in person.",
    ),
    Variable("CONTROLPLANE_KEEP_BODIES_DAYS", "keep_bodies_days", types.integer(1, 3650), "30", "Payloads' retention."),
    Variable(
        "CONTROLPLANE_KEEP_METADATA_DAYS", "keep_metadata_days", types.integer(1, 3650), "90", "Messages' retention."
    ),
    Variable(
        "CONTROLPLANE_KEEP_ATTEMPTS_DAYS", "keep_attempts_days", types.integer(1, 3650), "90", "Attempts' retention."
    ),
    Variable(
        "CONTROLPLANE_KEEP_RUNS_DAYS",
        "keep_runs_days",
        types.integer(1, 3650),
        "90",
        "Runs' retention; the last run of a suite and the last that passed stay.",
    ),
    Variable("CONTROLPLANE_JWT_ISSUER", "jwt_issuer", str, "", "The `iss` a JWT must carry."),
    Variable("CONTROLPLANE_JWT_AUDIENCE", "jwt_audience", str, "", "The `aud` a JWT must carry."),
    Variable("CONTROLPLANE_JWT_JWKS_URL", "jwt_jwks_url", types.http_url, "", "Where the issuer's keys are."),
    Variable(
        "CONTROLPLANE_JWT_KEY", "jwt_key", str, "", "A static key: PEM, or the secret of an HS algorithm.", secret=True
    ),
    Variable(
        "CONTROLPLANE_JWT_ALGORITHMS",
        "jwt_algorithms",
        types.subset(
            "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"
        ),
        "RS256",
        "Comma list of accepted signature algorithms.",
    ),
    Variable(
        "EMAIL_URL",
        "email_url",
        types.url("smtp", "smtps", "smtp+tls", "smtp+ssl", "consolemail", "dummymail"),
        "",
        "Mail server for notices; without it none are sent.",
        secret=True,
    ),
    Variable(
        "CONTROLPLANE_INCIDENT_LATE_S",
        "incident_late_s",
        types.number(1, 86400),
        "300",
        "An incident opens when the oldest due delivery of an interface waits for longer.",
    ),
    Variable(
        "CONTROLPLANE_INCIDENT_DEAD",
        "incident_dead",
        types.integer(1, 10**6),
        "100",
        "An incident opens when so many deliveries of an interface died within 10 minutes.",
    ),
    Variable(
        "CONTROLPLANE_INCIDENT_SETTLE_S",
        "incident_settle_s",
        types.number(0, 3600),
        "30",
        "An incident resolves when all was well for so long; one that comes back, later.",
    ),
    Variable(
        "CONTROLPLANE_INCIDENT_REOPEN_S",
        "incident_reopen_s",
        types.number(0, 86400),
        "3600",
        "What breaks again so soon after it was resolved is the same incident.",
    ),
    Variable(
        "CONTROLPLANE_INCIDENT_GATHER_S", "incident_gather_s", types.number(0, 3600), "5", "How long notices wait."
    ),
    Variable("CONTROLPLANE_MAIL_FROM", "mail_from", str, "controlplane@localhost", "Sender of notices."),
    Variable(
        "CONTROLPLANE_LOG_FORMAT",
        "log_format",
        types.choice("auto", "json", "text"),
        "auto",
        "auto: JSON lines in production, text elsewhere.",
    ),
    Variable(
        "CONTROLPLANE_LOG_LEVEL", "log_level", types.choice("debug", "info", "warning", "error"), "info", "Least level."
    ),
    Variable("CONTROLPLANE_RESTARTS", "restarts", types.integer(0, 10**9), "0", "Set by `up` for its processes."),
)
