"""Settings stop the start when they are wrong or unsafe, and say what to do."""

import base64
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from controlplane import env, safety, secret_files
from controlplane.env_problems import BadEnvironment
from tests.stack import ROOT

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()  # fixed: parallel workers must collect the same tests


@pytest.fixture
def production(tmp_path: Path) -> dict[str, str]:
    """Settings that are fit for production; each test spoils one."""
    return {
        "CONTROLPLANE_ENVIRONMENT": "production",
        "CONTROLPLANE_VAR": str(tmp_path),
        "SECRET_KEY": "9vXw2-hT7qLr_Zk4Nf8Bp1Jd6Mc3Gs5Ye0Ua",
        "CONTROLPLANE_ENCRYPTION_KEYS": f"k2:{KEY},k1:{Fernet.generate_key().decode()}",
        "CONTROLPLANE_PUBLIC_URL": "https://plane.example.com",
        "DATABASE_URL": "postgresql://u:p@db.example.com/plane",
    }


UNSAFE = [
    ("SECRET_KEY", "", "E101"),
    ("SECRET_KEY", "short", "E101"),
    ("SECRET_KEY", "a" * 60, "E101"),
    ("SECRET_KEY", "django-insecure-9vXw2-hT7qLr_Zk4Nf8Bp1Jd6Mc3Gs5Ye0Ua", "E101"),
    ("CONTROLPLANE_ENCRYPTION_KEYS", "", "E102"),
    ("CONTROLPLANE_ENCRYPTION_KEYS", "k1:" + "A" * 43 + "=", "E102"),
    ("CONTROLPLANE_DEBUG", "true", "E103"),
    ("CONTROLPLANE_PUBLIC_URL", "", "E104"),
    ("CONTROLPLANE_PUBLIC_URL", "http://plane.example.com", "E105"),
    ("CONTROLPLANE_ALLOWED_HOSTS", "*", "E106"),
    ("CONTROLPLANE_ALLOWED_HOSTS", "good.example.com,*.example.com", "E106"),
    ("CONTROLPLANE_EGRESS_ZONES", "0.0.0.0/0", "E107"),
    ("CONTROLPLANE_EGRESS_ZONES", "::/0", "E107"),
    ("CONTROLPLANE_EGRESS_ZONES", "10.0.0.0/8,127.0.0.1/32:8080", "E107"),
    ("CONTROLPLANE_EGRESS_ZONES", "169.254.169.254/32", "E107"),
    ("CONTROLPLANE_EGRESS_ZONES", "[::1/128]:443", "E107"),
    ("CONTROLPLANE_EGRESS_ZONES", "::ffff:10.0.0.0/104", "E107"),
    ("CONTROLPLANE_EGRESS_ZONES", "64:ff9b::/96", "E107"),
    ("TRUSTED_PROXIES", "0.0.0.0/0", "E108"),
    ("CONTROLPLANE_JWT_ISSUER", "https://issuer.example.com", None),
    ("DATABASE_URL", "postgresql://u:p@db/plane?options=-c%20synchronous_commit=off", "E112"),
    ("DATABASE_URL", "postgresql://u:p@db/plane?options=-csynchronous_commit%3Dlocal", "E112"),
]


@pytest.mark.parametrize(("name", "value", "code"), UNSAFE)
def test_an_unsafe_setting_does_not_start_in_production(
    production: dict[str, str], name: str, value: str, code: str | None
) -> None:
    """Each mutation is refused under its own id; a harmless one is not."""
    mutated = {**production, name: value}
    if code is None:
        safety.load(mutated)
        return
    with pytest.raises(BadEnvironment) as refused:
        safety.load(mutated)

    assert [problem.id for problem in refused.value.problems] == [f"controlplane.{code}"]  # and told once
    assert all(problem.do for problem in refused.value.problems)


def test_sqlite_below_full_does_not_start_in_production(production: dict[str, str]) -> None:
    """An acknowledged message must survive a power failure."""
    del production["DATABASE_URL"]
    safety.load(production)
    with pytest.raises(BadEnvironment, match="E112"):
        safety.load({**production, "CONTROLPLANE_SQLITE_SYNCHRONOUS": "normal"})


def test_jwt_keys_that_anyone_has_do_not_start_in_production(production: dict[str, str]) -> None:
    """A public key with an HS algorithm, a short secret, a missing issuer, keys fetched in the clear."""
    issuer = {"CONTROLPLANE_JWT_ISSUER": "i", "CONTROLPLANE_JWT_AUDIENCE": "a"}
    public = {"CONTROLPLANE_JWT_KEY": "-----BEGIN PUBLIC KEY-----" + "x" * 40, "CONTROLPLANE_JWT_ALGORITHMS": "HS256"}
    for spoiled, code in [
        ({**issuer, **public}, "E109"),
        ({**issuer, "CONTROLPLANE_JWT_KEY": "short", "CONTROLPLANE_JWT_ALGORITHMS": "HS256"}, "E109"),
        ({"CONTROLPLANE_JWT_JWKS_URL": "https://i.example.com/keys"}, "E110"),
        ({**issuer, "CONTROLPLANE_JWT_JWKS_URL": "http://i.example.com/keys"}, "E111"),
    ]:
        with pytest.raises(BadEnvironment, match=code):
            safety.load({**production, **spoiled})


def test_http_is_allowed_when_it_is_said_so(production: dict[str, str]) -> None:
    """Plain HTTP behind one's own TLS end is a choice, made explicitly."""
    production |= {"CONTROLPLANE_PUBLIC_URL": "http://plane.internal", "CONTROLPLANE_ALLOW_HTTP": "true"}

    assert safety.load(production).allowed_hosts == ["plane.internal"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONTROLPLANE_ENVIRONMENT", "prod"),
        ("CONTROLPLANE_DEBUG", "maybe"),
        ("CONTROLPLANE_LEASE_S", "0"),
        ("CONTROLPLANE_LEASE_S", "nan"),
        ("CONTROLPLANE_LEASE_S", "soon"),
        ("CONTROLPLANE_KEEP_BODIES_DAYS", "1.5"),
        ("CONTROLPLANE_PUBLIC_URL", "plane.example.com"),
        ("CONTROLPLANE_PUBLIC_URL", "https://x:99999"),
        ("CONTROLPLANE_ENCRYPTION_KEYS", KEY),
        ("CONTROLPLANE_ENCRYPTION_KEYS", f"k1:{KEY},k1:{KEY}"),
        ("CONTROLPLANE_ENCRYPTION_KEYS", "k1:dG9vIHNob3J0"),
        ("CONTROLPLANE_EGRESS_ZONES", "10.0.0.1/8"),
        ("CONTROLPLANE_EGRESS_ZONES", "10.0.0.0/8:0"),
        ("CONTROLPLANE_EGRESS_ZONES", "intranet"),
        ("CONTROLPLANE_JWT_ALGORITHMS", "none"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("DATABASE_URL", "mysql://u:p@h/db"),
        ("DATABASE_URL", "postgresql://u:p@h"),
        ("CELERY_BROKER_URL", "memory://"),
    ],
)
def test_a_bad_value_is_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    """The message names the variable and how to write it."""
    with pytest.raises(BadEnvironment) as refused:
        env.read({"CONTROLPLANE_VAR": str(tmp_path), name: value})

    assert [(p.id, p.name) for p in refused.value.problems] == [("controlplane.E002", name)]


def test_a_bad_secret_is_not_repeated(tmp_path: Path) -> None:
    """An error message ends in logs; a mistyped secret must not."""
    with pytest.raises(BadEnvironment) as refused:
        env.read({"CONTROLPLANE_VAR": str(tmp_path), "DATABASE_URL": "mysql://u:canary@h/db"})

    assert "canary" not in str(refused.value)


def test_an_unknown_variable_names_the_nearest(tmp_path: Path) -> None:
    """A typo is not a default."""
    with pytest.raises(BadEnvironment, match=r"E001.*CONTROLPLANE_LEASE .*\n.*CONTROLPLANE_LEASE_S"):
        env.read({"CONTROLPLANE_VAR": str(tmp_path), "CONTROLPLANE_LEASE": "30"})


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    """Compose files pass what is not set as an empty text."""
    assert env.read({"CONTROLPLANE_VAR": str(tmp_path), "CONTROLPLANE_LEASE_S": ""}).lease_s == 30


def test_a_wrong_setting_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    """One readable message and exit code 2, also where Django would print a stack."""
    spoiled = {**os.environ, "CONTROLPLANE_VAR": str(tmp_path), "CONTROLPLANE_LEAS_S": "3"}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=spoiled, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "CONTROLPLANE_LEASE_S" in done.stderr
    assert "Traceback" not in done.stderr


def test_racing_processes_share_one_made_up_secret(tmp_path: Path) -> None:
    """Whoever is first writes it; nobody overwrites it, and only the owner reads it."""
    path = tmp_path / "secret"
    with ThreadPoolExecutor(16) as pool:
        seen = list(pool.map(lambda number: secret_files.kept(path, lambda: f"secret-{number}"), range(64)))

    assert len(set(seen)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_secrets_do_not_show_in_the_environment_s_text(production: dict[str, str]) -> None:
    """A settings object that is printed by accident tells nothing."""
    shown = repr(safety.load(production))

    assert KEY not in shown
    assert production["SECRET_KEY"] not in shown
    assert "u:p@" not in shown


def test_options_of_the_connection_are_added_to_ours(tmp_path: Path) -> None:
    """Whoever names a schema keeps what sessions must have; theirs come last, and so have the last word."""
    url = "postgresql://u:p@db/plane?options=-c%20search_path%3Dplane"
    options = env.read({"CONTROLPLANE_VAR": str(tmp_path), "DATABASE_URL": url}).database["OPTIONS"]["options"]

    assert "-c jit=off" in options
    assert options.endswith(" -c search_path=plane")
