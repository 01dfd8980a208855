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


@pytest.mark.parametrize("words", [("jobs", "list"), ("status",)])
def test_without_its_tables_a_command_says_how_to_get_them(
    words: tuple[str, ...], empty_database: str, tmp_path: Path
) -> None:
    """Such as from another folder, where the default names another, new file."""
    done = run([*words], environment(tmp_path, empty_database))

    told = done.stdout + done.stderr
    assert done.returncode == 2
    assert "is not set up for this version" in told
    assert "`controlplane migrate`" in told
    assert "nothing is due" not in told  # nobody knows
    assert "Traceback" not in told


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    """What to look at is the host and the name; `--traceback` still shows all of it."""
    address = f"postgresql://plane:hunter2@127.0.0.1:{free_port()}/plane"
    done = run(["jobs", "list"], environment(tmp_path, address))
    assert done.returncode == 2
    assert f"The database {address.partition('@')[2]} does not answer" in done.stderr
    assert "Connection refused" in done.stderr
    assert "correct DATABASE_URL" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
