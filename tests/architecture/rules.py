"""The rules of the house as functions: each takes a module and returns where it breaks the rule."""

import ast
import re
from collections.abc import Iterator

from tests.architecture.source import APPS, Module, dotted

# --- who may import whom -------------------------------------------------------

RANK = {"endpoints": 0, "messaging": 1, "testing": 2, "controlplane": 3}  # an import goes down, never up
FACE = {"models", "services", "errors", "transports", "access", "edge", "egress"}
# Names of another app that are no part of its face, and why they are let through.
BESIDE_FACE = {
    "endpoints.addresses": "the settings name zones, and one parser reads them",
    "endpoints.ids": "ids are made the same way everywhere",
    "endpoints.admin": "the pages of one site share their base classes",
    "endpoints.api": "rows of one API are listed and changed alike",
    "endpoints.serializers": "every door reads as strictly as the registry's",
    "endpoints.pausing": "what is ended alike is asked for alike",
    "endpoints.management": "commands say what they are refused in the same way",
    "messaging.admin": "the dashboard is put together at the root, and the pages of one site read lists alike",
    "messaging.wakeups": "hints between processes are sent alike",
}
# The composition root puts the apps together: it names their ways in.
ROOT_MAY = {
    "outcome",
    "notice_api",
    "signing_api",
    "listener_api",
    "incident_api",
    "api",
    "registry_api",
    "dead_letters",
    "admin",
    "views",
    "consumers",
    "intake",
    "listening",
    "urls",
    "wakeups",
    "schedule_api",
    "serializers",
    "filters",
    "panels",
    "jobs",
    "api_jobs",
    "api_packs",
    "history_api",
    "document",
    "reports",
    "runner",
    "gateway",
    "pulling",
    "pull_api",
    "documents_api",
}

LAYERS = (
    {"errors", "conf", "ids", "wakeups"},
    {"models"},
    {"store"},
    {
        "engine",
        "runner",
        "intake",
        "listening",
        "monitor",
        "transports",
        "access",
        "egress",
        "addresses",
        "edge",
        "payloads",
        "totals",
        "moves",
        "pace",
        "filters",
        "jobs",
        "document",
        "drafting",
        "assertions",
        "fuzzing",
        "steps",
        "load",
        "reports",
        "outside",
        "owning",
        "packs",
        "pulling",
    },
    {"services"},
    {
        "api",
        "registry_api",
        "admin",
        "views",
        "registry_views",
        "api_jobs",
        "api_packs",
        "serializers_packs",
        "documents_api",
        "serializers_documents",
        "views_jobs",
        "views_runs",
        "views_packs",
        "views_suites",
        "views_editor",
        "views_history",
        "history_api",
        "serializers_history",
        "charts",
        "charts_load",
        "panels",
        "templatetags",
        "views_edit",
        "views_stream",
        "tasks",
        "management",
        "consumers",
        "serializers",
        "parsers",
        "forms",
        "serializers_jobs",
        "forms_edit",
        "gateway",
        "pull_api",
        "schedule_api",
    },
)
LAYER = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# `services` meets these in the table, never in code; and the ways in do not know of each other.
APART = {("services", "engine"), ("services", "runner"), ("services", "monitor"), ("engine", "services")}
# `access.principal` is the shape of a caller: the models' own querysets take one.
SHAPES = {"endpoints.access.principal", "endpoints.transports.base"}


def imports_up(module: Module) -> Iterator[str]:
    """Between apps, imports go one way and touch only the other's face."""
    for line, name in module.imports:
        app, *rest = name.split(".")
        if app not in RANK or app == module.app or not rest:
            continue
        allowed = FACE | (ROOT_MAY if module.app == "controlplane" else set())
        if RANK[app] > RANK[module.app]:
            yield f"{module.name}:{line} imports {name}, which is above it"
        elif rest[0] not in allowed and not name.startswith(tuple(BESIDE_FACE)):
            yield f"{module.name}:{line} imports {name}, which is inside {app}"


def imports_across_layers(module: Module) -> Iterator[str]:
    """Inside an app: errors, conf <- models <- store <- engine | intake <- services <- ways in."""
    own = module.name.split(".")[1:2]
    if not own or own[0] not in LAYER or module.name in SHAPES:
        return
    for line, name in module.imports:
        app, *rest = name.split(".")
        if app != module.app or not rest or rest[0] not in LAYER or rest[0] == own[0] or name.startswith(tuple(SHAPES)):
            continue
        if LAYER[rest[0]] > LAYER[own[0]] or (own[0], rest[0]) in APART:
            yield f"{module.name}:{line} imports {name}, which is not below it"


# --- one home for raw SQL ------------------------------------------------------

SQL_HOMES = {
    "messaging.store": "all statements of the app",
    "messaging.seed.make": "history for size tests, made in bulk",
    "endpoints.transports.postgresql": "statements that suites bring, to databases that are not ours",
}
SQL_ALWAYS = {"RunSQL", "RawSQL"}
SQL_CALLS = {"cursor", "execute", "executemany", "raw", "extra"}
SQL_OWNERS = {"cursor", "connection", "objects", "queryset"}


def raw_sql(module: Module) -> Iterator[str]:
    """SQL text is written in one module an app."""
    if module.name in SQL_HOMES:
        return
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        method = node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
        owner = dotted(node.func.value).rpartition(".")[2] if isinstance(node.func, ast.Attribute) else None
        # An owner that is itself a call has no name: `connection.cursor().execute`, `objects.all().raw`.
        on_database = owner == "" or owner in SQL_OWNERS
        if method in SQL_ALWAYS or (method in SQL_CALLS and on_database):
            yield f"{module.name}:{node.lineno} {method}"


# --- no way out but egress -----------------------------------------------------

EGRESS = {"endpoints.egress"}
CLIENTS = {
    "requests",
    "httpx",
    "urllib3",
    "http.client",
    "urllib.request",
    "socketserver",
    "ftplib",
    "smtplib",
    "telnetlib",
}
OPENERS = {
    "socket.create_connection",
    "socket.socket",
    "asyncio.open_connection",
    "asyncio.create_datagram_endpoint",
    "aiohttp.request",
    "aiohttp.ClientSession",
    "aiohttp.TCPConnector",
    "aiohappyeyeballs.start_connection",
    "ssl.get_server_certificate",
}
MAY_OPEN = {
    "controlplane.runfile": "asks whether our own port is free or taken",
    "controlplane.web": "binds our own port",
    "messaging.listening.sockets": "binds what our listeners listen on",
    "messaging.listening.udp": "serves a socket that is bound already",
    "messaging.monitor.mail": "smtplib speaks SMTP, over an address that egress has checked",
    "messaging.wakeups": "a datagram on loopback from one process of ours to another",
}


def ways_out(module: Module) -> Iterator[str]:
    """Only egress resolves names and opens connections, so that no address goes unchecked."""
    if module.name in EGRESS or module.name in MAY_OPEN:
        return
    for line, name in module.imports:
        if any(name == client or name.startswith(f"{client}.") for client in CLIENTS) or name in OPENERS:
            yield f"{module.name}:{line} imports {name}"
    for node in ast.walk(module.tree):
        name = dotted(node.func) if isinstance(node, ast.Call) else ""
        if name in OPENERS or name.endswith((".create_connection", ".create_datagram_endpoint", ".getaddrinfo")):
            yield f"{module.name}:{node.lineno} calls {name}"


# --- errors are caught by name -------------------------------------------------

# One in each: what outlives a message must outlive a bug that nobody thought of.
BROAD = {
    "endpoints.transports.added": "whatever a package of others raises when it is imported",
    "messaging.engine.attempt": "a bug in a transport costs one attempt, not the engine",
    "messaging.engine.doors": "the opening of transports, one by one",
    "messaging.intake.writer": "the group-commit loop",
    "messaging.listening.tcp": "the loop that holds connections to their deadlines",
    "messaging.listening.hooks": "the loop that reports on hooks",
    "messaging.pulling.desk": "the loops that hand out and write down",
    "messaging.jobs.runner": "the loop that works jobs, and the end of one that cannot go on",
    "messaging.monitor.loop": "the loop that watches everything else",
    "messaging.monitor.outbox": "the thread that mails: a bug with one notice costs a try of that one",
    "messaging.gateway.application": "the loop that looks for connections that must end",
    "messaging.gateway.sends": "a bug costs one lot of what a client sends, not all of it from then on",
    "messaging.gateway.tail": "the loop that reads for all who follow",
    "messaging.gateway.delivering": "the loop that keeps a worker while clients are connected",
    "messaging.consumers": "the loop that feeds the live pages",
    "testing.load.plain": "a bug costs one iteration of a load",
    "testing.load.runner": "a bug of ours costs one load, not the cases beside it",
    "testing.packs.added": "whatever a package of others raises when it is imported",
    "testing.runner.execute": "a bug of ours costs one run, not the worker",
    "testing.runner.stepping": "a bug in a kind of step costs one step, not the cleanups and the other cases",
    "testing.runner.worker": "the loop that takes what waits",
    "testing.services.clock": "what cannot begin by itself must not hold up what waits",
    "testing.services.schedules": "one schedule that cannot be followed must not hold up the others",
    "testing.steps.python_child": "whatever the hooks of others raise",
    "messaging.gateway.streams": "what breaks one stream leaves its connection and the others be",
}


def broad_excepts(module: Module) -> Iterator[str]:
    """`except Exception` hides bugs: only the modules above may, once each."""
    found = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & set(re.findall(r"\w+", ast.unparse(node.type))))
        and not any(isinstance(last, ast.Raise) and last.exc is None for last in node.body[-1:])
    ]
    for node in found[module.name in BROAD :]:
        yield f"{module.name}:{node.lineno}"


# --- small things stay small ---------------------------------------------------

LONGEST_MODULE, LONGEST_FUNCTION = 300, 60
LONG_MODULES = {
    "messaging.store": "one function is one statement; they are read side by side",
    "messaging.models": "the tables of one app, read side by side",
    "endpoints.models": "the tables of one app, read side by side",
    "testing.models": "the tables of one app, read side by side",
}


def too_long(module: Module) -> Iterator[str]:
    """A module fits a reader's head, a function fits a screen."""
    lines = len(module.text.splitlines())
    if lines > LONGEST_MODULE and module.name not in LONG_MODULES:
        yield f"{module.name} has {lines} lines"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield f"{module.name}:{node.lineno} {node.name} has {length} lines"


# --- words ---------------------------------------------------------------------

FORBIDDEN_NAMES = {"utils", "util", "common", "core", "helpers", "helper", "lib", "misc", "manager", "managers"}
FORBIDDEN_TEXT = re.compile(r"\b(post_save|pre_save|post_delete|pre_delete)\b|\bTODO\b|\bFIXME\b|\bXXX\b")


def words(module: Module) -> Iterator[str]:
    """No drawer for odds and ends, no flow through signals, nothing left to do in a comment."""
    if bad := FORBIDDEN_NAMES & set(module.name.split(".")):
        yield f"{module.name} is named {bad.pop()}"
    for number, line in enumerate(module.text.splitlines(), start=1):
        if found := FORBIDDEN_TEXT.search(line):
            yield f"{module.name}:{number} says {found.group()}"


def docstrings(module: Module) -> Iterator[str]:
    """A module opens with what it is for."""
    if module.text.strip() and not ast.get_docstring(module.tree):
        yield module.name


RULES = (imports_up, imports_across_layers, raw_sql, ways_out, broad_excepts, too_long, words, docstrings)
assert set(RANK) == set(APPS)
