"""Our source keeps the rules of the house, and each rule sees a planted breach."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.architecture import rules
from tests.architecture.source import ROOT, Module, our_modules

Rule = Callable[[Module], Iterator[str]]

LONG = "def f():\n" + "    x = 1\n" * 61
PLANTED: list[tuple[Rule, str, str]] = [
    (rules.imports_up, "endpoints.services.rules", "from messaging.models import Message"),
    (rules.imports_up, "messaging.engine.worker", "import controlplane.settings"),
    (rules.imports_up, "messaging.api", "def f():\n    from endpoints.monitor.loop import run"),
    (rules.imports_up, "controlplane.plain", "from messaging.engine.worker import Worker"),
    (rules.imports_across_layers, "messaging.models", "from messaging import store"),
    (rules.imports_across_layers, "messaging.store", "from messaging.services import sending"),
    (rules.imports_across_layers, "messaging.services.sending", "from messaging.engine.worker import Worker"),
    (rules.imports_across_layers, "messaging.services.sending", "from messaging.api import MessageViewSet"),
    (rules.imports_across_layers, "messaging.engine.worker", "from messaging.services import status"),
    (rules.raw_sql, "messaging.services.status", "connection.cursor()"),
    (rules.raw_sql, "messaging.services.status", "with connection.cursor() as c:\n    c.x"),
    (rules.raw_sql, "messaging.services.status", "cursor.execute('SELECT 1')"),
    (rules.raw_sql, "messaging.services.status", "Message.objects.raw('SELECT 1')"),
    (rules.raw_sql, "messaging.services.status", "Message.objects.filter(x=1).extra(where=['1'])"),
    (rules.raw_sql, "messaging.services.status", "RawSQL('1', [])"),
    (rules.ways_out, "messaging.services.notices", "import requests"),
    (rules.ways_out, "messaging.services.notices", "from urllib.request import urlopen"),
    (rules.ways_out, "endpoints.transports.tcp", "asyncio.open_connection('h', 1)"),
    (rules.ways_out, "endpoints.transports.tcp", "from asyncio import open_connection"),
    (rules.ways_out, "endpoints.transports.tcp", "loop.create_connection(f, 'h', 1)"),
    (rules.ways_out, "endpoints.transports.http", "aiohttp.ClientSession()"),
    (rules.ways_out, "endpoints.transports.http", "socket.getaddrinfo('h', 1)"),
    (rules.ways_out, "endpoints.transports.http", "from aiohappyeyeballs import start_connection"),
    (rules.broad_excepts, "messaging.api", "try:\n    f()\nexcept Exception:\n    pass"),
    (rules.broad_excepts, "messaging.api", "try:\n    f()\nexcept (ValueError, Exception):\n    pass"),
    (rules.broad_excepts, "messaging.api", "try:\n    f()\nexcept:\n    pass"),
    (rules.broad_excepts, "messaging.engine.worker", "try:\n    f()\nexcept Exception:\n    g()\n" * 2),
    (rules.too_long, "messaging.api", "x = 1\n" * 301),
    (rules.too_long, "messaging.api", LONG),
    (rules.words, "messaging.utils", "x = 1"),
    (rules.words, "messaging.api", "x = 1  # TO" + "DO later"),
    (rules.words, "messaging.api", "from django.db.models.signals import post" + "_save"),
    (rules.docstrings, "messaging.api", "x = 1"),
]


@pytest.fixture(scope="module")
def ours() -> list[Module]:
    return our_modules()


@pytest.mark.xdist_group("source")  # read and parsed once
@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_our_source_keeps(ours: list[Module], rule: Rule) -> None:
    """Whoever breaks a rule reads here which and where."""
    broken = [where for module in ours for where in rule(module)]

    assert not broken, f"{rule.__doc__}\n" + "\n".join(broken)


@pytest.mark.parametrize(("rule", "name", "text"), PLANTED, ids=lambda value: getattr(value, "__name__", None))
def test_a_rule_sees_a_planted_breach(rule: Rule, name: str, text: str) -> None:
    """A rule that never fires proves nothing."""
    assert list(rule(Module(name, text)))


def test_every_rule_has_a_planted_breach() -> None:
    """A new rule comes with its proof."""
    assert {rule for rule, _, _ in PLANTED} == set(rules.RULES)


@pytest.mark.parametrize("listed", [rules.SQL_HOMES, rules.MAY_OPEN, rules.BROAD, rules.LONG_MODULES])
def test_every_exception_names_a_module_that_needs_it(listed: dict[str, object]) -> None:
    """An exception that is no longer needed is a hole."""
    assert not set(listed) - {module.name for module in our_modules()}


def test_no_migration_is_missing() -> None:
    """Models and migrations say the same."""
    done = subprocess.run(
        [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
