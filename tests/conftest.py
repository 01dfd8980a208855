"""Fixtures of every test: databases of both engines, and the control plane as real processes."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.servers.absence import missing
from tests.stack import Databases, Stack, postgres_server

DATABASE_FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "live_server", "client_db"}
# Here the product runs in processes of its own: what is left open in this one is a test's peer, cut by design.
OUTSIDE = {"acceptance", "browser", "listening", "peers"}
SHARED = {"shared_stack", "ways"}
STACK_FIXTURES = {"stack", "make_stack", "database_url"}
# Real servers, programs, threads and clocks: these tests may be late on a busy machine, and nothing else may.
LATE_FOLDERS = OUTSIDE | {"contract", "deploy", "endpoints", "packs", "testing"}
LATE_FIXTURES = STACK_FIXTURES | {"transactional_db", "live_server", "http_receiver", "tls_receiver", "token_server"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what touches a database, so that `make test` can run exactly that again on the other engine.

    What shares a stack stays together by file: all of it in one process would run long after the others are done.
    For the same reason what starts processes comes first. What cannot be late is not tried again when it fails.
    """
    for item in items:
        if OUTSIDE & set(item.path.parts):
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
        if item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & STACK_FIXTURES:
            item.add_marker(pytest.mark.stack)
        elif fixtures & DATABASE_FIXTURES or item.get_closest_marker("django_db"):
            item.add_marker(pytest.mark.database)
        if not (fixtures & LATE_FIXTURES or LATE_FOLDERS & set(item.path.parts) or item.get_closest_marker("stack")):
            item.add_marker(pytest.mark.flaky(reruns=0))
    items.sort(key=lambda item: item.get_closest_marker("stack") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Function) -> None:
    """Give a test that is tried again a new stack, if it shares one: in the old one its systems are registered."""
    if getattr(item, "execution_count", 1) > 1:
        for name in SHARED & set(item.fixturenames):
            for definition in item._fixtureinfo.name2fixturedefs[name]:
                definition.finish(item._request)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show why what passed at the second go had failed at the first: lateness has a cause, too."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"first go of {report.nodeid}", sep="_")
        terminalreporter.line(report.longreprtext)
        for name, text in report.sections:
            terminalreporter.line(f"-- {name}\n{text}")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all test processes of this run have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Let Django take a file for its test database that is there: it is a migrated one."""
    return connection.vendor == "sqlite"


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Iterator[None]:
    """Give this test process a test database that no other has, whoever runs tests beside it, migrated already."""
    folder, test = tmp_path_factory.mktemp("database"), connection.settings_dict["TEST"]
    server = None if connection.vendor == "sqlite" else os.environ["DATABASE_URL"]
    with closing(Databases(folder, server, run_folder)) as databases:
        if server is None:
            test["NAME"] = str(databases.copy("test"))
        else:
            unique = f"{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}"
            test |= {"NAME": f"test_cp_{unique}", "TEMPLATE": databases.template}
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Before the test database is dropped, end what threads of ours still hold open on it."""
    yield
    if connection.vendor == "postgresql":
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """Return the URL of a real PostgreSQL server, or skip by name; with CI set a missing server is a failure."""
    return postgres_server() or missing("PostgreSQL: no server; run `make services` or set TEST_POSTGRES_URL")


@pytest.fixture(scope="session")
def sqlite_databases(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Iterator[Databases]:
    with closing(Databases(tmp_path_factory.mktemp("sqlite"), None, run_folder)) as databases:
        yield databases


@pytest.fixture(scope="session")
def postgres_databases(
    tmp_path_factory: pytest.TempPathFactory, postgres_url: str, run_folder: Path
) -> Iterator[Databases]:
    with closing(Databases(tmp_path_factory.mktemp("postgres"), postgres_url, run_folder)) as databases:
        yield databases


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield a fresh, migrated database of each engine in turn."""
    engine = {"sqlite": "sqlite_databases", "postgresql": "postgres_databases"}[request.param]
    databases: Databases = request.getfixturevalue(engine)
    with databases.fresh() as url:
        yield url


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    """Let this process remember nothing of another test's database: slugs and keys come again, ids do not."""
    from endpoints.access import authenticate, signed
    from messaging.engine import burial
    from messaging.intake.directory import DIRECTORY
    from messaging.pulling import leasing

    authenticate.forget_all()
    signed.forget_all()
    burial.forget()
    DIRECTORY.forget()
    leasing.forget()


@pytest.fixture
def make_stack(tmp_path: Path, database_url: str) -> Iterator[Callable[..., Stack]]:
    """Yield a maker of stacks on this test's database; keyword arguments are settings (environment variables)."""
    made: list[Stack] = []

    def make(**settings: str) -> Stack:
        made.append(Stack(tmp_path / f"var{len(made)}", database_url, **settings))
        return made[-1]

    yield make
    for stack in made:
        stack.close()


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    """Return a stack with its web process and its delivery worker running."""
    stack = make_stack()
    stack.start("web")
    stack.start("deliver")
    return stack
