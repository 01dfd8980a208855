"""Commands say what is wrong with the database and what to do, where they used to end in a page of traceback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.absence import missing
from tests.servers.ports import free_port
from tests.stack import environment, postgres_server, run


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without any table of ours."""
    if request.param == "SQLite":
        yield f"sqlite:///{tmp_path}/new.sqlite3"
    elif server := postgres_server():
        yield f"{server.rpartition('/')[0]}/postgres"
    else:
        missing("PostgreSQL: no server; run `make services` or set TEST_POSTGRES_URL")


def test_without_its_tables_a_command_says_how_to_get_them(empty_database: str, tmp_path: Path) -> None:
    """Such as from another folder, where the default names another, new file."""
    done = run(["jobs", "list"], environment(tmp_path, empty_database))

    assert (done.returncode, done.stdout) == (2, "")
    assert "is not set up for this version" in done.stderr
    assert "`controlplane migrate`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    """What to look at is the host and the name; `--traceback` still shows all of it."""
    address = f"postgresql://plane:hunter2@127.0.0.1:{free_port()}/plane"
    done = run(["jobs", "list"], environment(tmp_path, address))
    assert done.returncode == 2
    assert f"The database {address.partition('@')[2]} cannot be used" in done.stderr
    assert "correct DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
