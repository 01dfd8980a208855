"""The typed environment: every variable the control plane reads, in one table, checked once at start.

A wrong or unknown variable stops the start: a setting that is silently ignored
is worse than one that is missing. All problems are told at once, each with an
id, its place, and what to do.
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ

from controlplane import env_types as types
from controlplane.env_problems import BadEnvironment, Problem
from controlplane.env_table import DEVELOPMENT, VARIABLES
from controlplane.runfile import Run
from controlplane.secret_files import encryption_keys_file, secret_key_file

PREFIX = "CONTROLPLANE_"
SQLITE_NAME = "controlplane.sqlite3"  # in the var directory, unless DATABASE_URL names another
LOCAL_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
LOCAL_ZONES = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"


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
    connections_per_address: int
    connections_per_key: int
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
    values = given_values(variables)
    given = frozenset(name for name in BY_NAME if variables.get(name))
    return Environment(**_completed(values, given), given=given)


def given_values(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of each field as it was given or by default, and make nothing; raises BadEnvironment."""
    problems = _unknown(variables)
    values = _read(variables, problems)
    if problems:
        raise BadEnvironment(problems)
    return values


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


def _completed(values: dict[str, Any], given: frozenset[str]) -> dict[str, Any]:
    """Fill in what depends on other values: paths, and what development makes up for itself."""
    values["var_dir"] = var_dir = values["var_dir"].resolve()
    var_dir.mkdir(exist_ok=True, parents=True)
    values["database_url"] = values["database_url"] or f"sqlite:///{var_dir}/{SQLITE_NAME}"
    if values["environment"] == DEVELOPMENT:
        values["secret_key"] = values["secret_key"] or secret_key_file(var_dir)
        values["encryption_keys"] = values["encryption_keys"] or types.encryption_keys(encryption_keys_file(var_dir))
        values["egress_zones"] = values["egress_zones"] or types.zones(LOCAL_ZONES)
        if "CONTROLPLANE_PUBLIC_URL" not in given:  # a command in a second terminal speaks of the same place
            values["public_url"] = Run(var_dir).read().get("url") or values["public_url"]
    return values
