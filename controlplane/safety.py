"""What must not run in production: one row per rule, each with its id and what to do instead."""

from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import NamedTuple

from controlplane import env_types
from controlplane.env import Environment, read
from controlplane.env_problems import BadEnvironment, Problem
from controlplane.env_table import PRODUCTION, STAGING

LEAST_SECRET = 32
LEAST_DIFFERENT = 10
# Nobody outside this machine or network has an excuse to be sent here by a stranger's address.
NEVER_OPEN = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "2002::/16",
    "fd00:ec2::254/128",
]
WIDEST = {4: 8, 6: 7}  # prefix lengths: 10.0.0.0/8 and fc00::/7 are the widest private networks


class Rule(NamedTuple):
    """A check that returns what is wrong, or None, in the profiles where it refuses the start."""

    id: str
    name: str
    check: Callable[[Environment], str | None]
    do: str
    profiles: tuple[str, ...] = (PRODUCTION,)


def secret_key(env: Environment) -> str | None:
    """Sessions and links are only as good as the key they are signed with."""
    if not env.secret_key:
        return "is missing."
    weak = len(env.secret_key) < LEAST_SECRET or len(set(env.secret_key)) < LEAST_DIFFERENT
    if weak or any(word in env.secret_key.lower() for word in ("insecure", "changeme", "development")):
        return "is too weak."
    return None


def encryption_keys(env: Environment) -> str | None:
    """Stored secrets must not lie in the open, nor under a key that anyone guesses."""
    if not env.encryption_keys:
        return "is missing."
    keys = [entry.partition(":")[2] for entry in env.encryption_keys]
    return "holds a weak key." if any(len(set(key)) < LEAST_DIFFERENT for key in keys) else None


def debug(env: Environment) -> str | None:
    """A debug page shows settings and local variables to anyone."""
    return "shows settings and local variables to anyone." if env.debug else None


def public_url(env: Environment) -> str | None:
    """Links and host checks need the address people use."""
    return None if "CONTROLPLANE_PUBLIC_URL" in env.given else "is missing."


def plain_http(env: Environment) -> str | None:
    """Passwords and keys must not travel in the clear."""
    is_missing = public_url(env) is not None  # which is told already
    if is_missing or env.public_url.startswith("https://") or env.allow_http:
        return None
    return "is http://: passwords and keys would travel in the clear."


def hosts(env: Environment) -> str | None:
    """A wildcard lets a stranger choose the host in our links."""
    wild = [host for host in env.allowed_hosts if "*" in host or host in ("0.0.0.0", "[::]")]  # noqa: S104 - refused, not bound
    return f"'{wild[0]}' answers to any name." if wild else None


def egress(env: Environment) -> str | None:
    """An open zone turns deliveries into a way to our own network and its metadata service."""
    for zone in env.egress_zones:
        network = env_types.zone_network(zone)
        if network.prefixlen < WIDEST[network.version]:
            return f"'{zone}' is wider than any private network."
        for forbidden in map(ip_network, NEVER_OPEN):
            if network.version == forbidden.version and network.overlaps(forbidden):
                return f"'{zone}' opens {forbidden}."
    return None


def proxies(env: Environment) -> str | None:
    """Trusting every proxy lets any client choose the address it is logged and limited by."""
    wide = [net for net in map(ip_network, env.trusted_proxies) if net.prefixlen < WIDEST[net.version]]
    return f"'{wide[0]}' trusts nearly everyone." if wide else None


def jwt_key(env: Environment) -> str | None:
    """A short shared secret is found by trying; a public key with an HS algorithm is one everybody has."""
    symmetric = any(name.startswith("HS") for name in env.jwt_algorithms)
    if env.jwt_key and symmetric and (len(env.jwt_key) < LEAST_SECRET or "-----BEGIN" in env.jwt_key):
        return "is not a secret fit for an HS algorithm."
    return None


def jwt_issuer(env: Environment) -> str | None:
    """Without issuer and audience a token made for another service is good here too."""
    if (env.jwt_key or env.jwt_jwks_url) and not (env.jwt_issuer and env.jwt_audience):
        return "is missing: tokens made for others would be accepted."
    return None


def jwks(env: Environment) -> str | None:
    """Keys fetched in the clear are anyone's keys."""
    return "is http://: anyone on the way could hand out keys." if env.jwt_jwks_url.startswith("http://") else None


def durability(env: Environment) -> str | None:
    """Acknowledged means stored, also when the power fails."""
    return env_types.weak_durability(env.database_url, env.sqlite_synchronous)


GUARDED = (STAGING, PRODUCTION)
MAKE_KEY = "python -c 'import secrets; print(secrets.token_urlsafe(48))'"
MAKE_FERNET = "python -c 'from cryptography.fernet import Fernet; print(\"k1:\" + Fernet.generate_key().decode())'"
RULES = (
    Rule("controlplane.E101", "SECRET_KEY", secret_key, f"Make one: {MAKE_KEY}", GUARDED),
    Rule("controlplane.E102", "CONTROLPLANE_ENCRYPTION_KEYS", encryption_keys, f"Make one: {MAKE_FERNET}", GUARDED),
    Rule("controlplane.E103", "CONTROLPLANE_DEBUG", debug, "Unset it."),
    Rule("controlplane.E104", "CONTROLPLANE_PUBLIC_URL", public_url, "Set it to https://<the name people use>."),
    Rule(
        "controlplane.E105",
        "CONTROLPLANE_PUBLIC_URL",
        plain_http,
        "Use https://, or set CONTROLPLANE_ALLOW_HTTP=true when the network itself is trusted.",
    ),
    Rule("controlplane.E106", "CONTROLPLANE_ALLOWED_HOSTS", hosts, "Name the hosts."),
    Rule("controlplane.E107", "CONTROLPLANE_EGRESS_ZONES", egress, "Name only the networks that systems live in."),
    Rule("controlplane.E108", "TRUSTED_PROXIES", proxies, "Name only the proxies' own addresses."),
    Rule("controlplane.E109", "CONTROLPLANE_JWT_KEY", jwt_key, f"Use {LEAST_SECRET} random characters, or a JWKS URL."),
    Rule(
        "controlplane.E110",
        "CONTROLPLANE_JWT_ISSUER",
        jwt_issuer,
        "Set CONTROLPLANE_JWT_ISSUER and CONTROLPLANE_JWT_AUDIENCE.",
    ),
    Rule("controlplane.E111", "CONTROLPLANE_JWT_JWKS_URL", jwks, "Use https://."),
    Rule(
        "controlplane.E112",
        "DATABASE_URL",
        durability,
        "Leave CONTROLPLANE_SQLITE_SYNCHRONOUS at full, and synchronous_commit on.",
    ),
)


def unsafe(env: Environment) -> list[Problem]:
    """Return what refuses the start in the environment's profile; development refuses nothing."""
    found = ((rule, rule.check(env)) for rule in RULES if env.environment in rule.profiles)
    return [Problem(rule.id, rule.name, what, rule.do) for rule, what in found if what]


def load(environ: Mapping[str, str] | None = None) -> Environment:
    """Return an environment that is fit to start with, or raise BadEnvironment with every problem."""
    env = read(environ)
    if problems := unsafe(env):
        raise BadEnvironment(problems)
    return env
