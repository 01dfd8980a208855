"""The typed environment: every variable the control plane reads, in one table, checked once at start.

A wrong or unknown variable stops the start: a setting that is silently ignored
is worse than one that is missing. All problems are told at once, each with an
id, its place, and what to do.
"""

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ

from controlplane import env_types as types
from controlplane.env_problems import BadEnvironment, Problem
from controlplane.secret_files import encryption_keys_file, secret_key_file

PREFIX = "CONTROLPLANE_"
DEVELOPMENT, STAGING, PRODUCTION = "development", "staging", "production"
LOCAL_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
LOCAL_ZONES = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"


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
        "Where people and programs reach this: hosts, CSRF, cookies and links follow it.",
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
    Variable("REDIS_URL", "redis_url", types.url("redis", "rediss"), "", "Optional Redis.", secret=True),
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
BY_NAME = {variable.name: variable for variable in VARIABLES}


@dataclass(frozen=True)
class Environment:
    """The variables, read and checked; the same names are attributes of Django's settings."""

    environment: str
    debug: bool
    secret_key: str = field(repr=False)
    encryption_keys: list[str] = field(repr=False)
    public_url: str
    extra_hosts: list[str]
    allow_http: bool
    trusted_proxies: list[str]
    var_dir: Path
    database_url: str = field(repr=False)
    sqlite_synchronous: str
    broker_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    egress_zones: list[str]
    python_modules: list[str]
    lease_s: float
    keep_bodies_days: int
    keep_metadata_days: int
    keep_attempts_days: int
    keep_runs_days: int
    jwt_issuer: str
    jwt_audience: str
    jwt_jwks_url: str
    jwt_key: str = field(repr=False)
    jwt_algorithms: list[str]
    email_url: str = field(repr=False)
    incident_late_s: float
    incident_dead: int
    incident_settle_s: float
    incident_reopen_s: float
    incident_gather_s: float
    mail_from: str
    log_format: str
    log_level: str
    restarts: int
    given: frozenset[str]  # names of the variables that were set, to tell a choice from a default

    @property
    def allowed_hosts(self) -> list[str]:
        """Return the hosts we answer to: the public one, those added, and in development this machine."""
        public = urlsplit(self.public_url).hostname or ""
        local = LOCAL_HOSTS if self.environment == DEVELOPMENT else []
        return list(dict.fromkeys([f"[{public}]" if ":" in public else public, *self.extra_hosts, *local]))

    @property
    def csrf_trusted_origins(self) -> list[str]:
        """Return the one origin whose forms we take."""
        parts = urlsplit(self.public_url)
        return [f"{parts.scheme}://{parts.netloc}"]

    @property
    def database(self) -> dict[str, Any]:
        """Return Django's DATABASES entry."""
        return types.database_config(self.database_url, self.sqlite_synchronous)

    @property
    def mail(self) -> dict[str, Any]:
        """Return Django's EMAIL_* settings; with no server named, mails go nowhere."""
        return dict(environ.Env.email_url_config(self.email_url or "dummymail://"))


def read(variables: Mapping[str, str] | None = None) -> Environment:
    """Return the environment, or raise BadEnvironment with everything that cannot be read.

    Whether it is also safe to start with is for `controlplane.safety` to say.
    """
    variables = os.environ if variables is None else variables
    problems = _unknown(variables)
    values = _read(variables, problems)
    if problems:
        raise BadEnvironment(problems)
    return Environment(**_completed(values), given=frozenset(name for name in BY_NAME if variables.get(name)))


def _unknown(variables: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each variable of ours that does not exist; only our prefix can be told apart."""
    problems = []
    for name in sorted(variables):
        if name.startswith(PREFIX) and name not in BY_NAME:
            near = difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0)
            problems.append(Problem("controlplane.E001", name, "is not known.", f"Did you mean {near[0]}?"))
    return problems


def _read(variables: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    """Return the value of each field; an empty variable counts as not set, as compose files pass it."""
    values: dict[str, Any] = {}
    for variable in VARIABLES:
        text = variables.get(variable.name, "").strip() or variable.default
        try:
            values[variable.field] = variable.parse(text)
        except ValueError as error:
            shown = "the value" if variable.secret else repr(text)
            problems.append(
                Problem("controlplane.E002", variable.name, f"{shown} is not right: {error}", variable.help)
            )
    return values


def _completed(values: dict[str, Any]) -> dict[str, Any]:
    """Fill in what depends on other values: paths, and what development makes up for itself."""
    values["var_dir"] = var_dir = values["var_dir"].resolve()
    var_dir.mkdir(exist_ok=True, parents=True)
    values["database_url"] = values["database_url"] or f"sqlite:///{var_dir}/controlplane.sqlite3"
    if values["environment"] == DEVELOPMENT:
        values["secret_key"] = values["secret_key"] or secret_key_file(var_dir)
        values["encryption_keys"] = values["encryption_keys"] or types.encryption_keys(encryption_keys_file(var_dir))
        values["egress_zones"] = values["egress_zones"] or types.zones(LOCAL_ZONES)
    return values
