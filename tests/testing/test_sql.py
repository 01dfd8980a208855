"""The step `sql` against a real PostgreSQL: what it sees, what it may not do, and what it keeps to itself."""

from collections.abc import Callable

import pytest

from tests.endpoints.conftest import Caller
from tests.servers.ports import free_port
from tests.testing.conftest import Outcome
from tests.testing.memory import MIB, growth
from tests.testing.targets import Database

Run = Callable[..., Outcome]
UNDONE = ", write: true, rollback: true"
EXISTS = "{status: {exists: true}}"
AFTER = "set transaction read write, delete from orders"


def suite(*steps: str) -> str:
    cases = "".join(f"  - {{case: c{number}, steps: [{step}]}}\n" for number, step in enumerate(steps))
    return f"suite: db\nsystems: {{db: orders/database}}\ncases:\n{cases}"


def ask(query: str, check: str, more: str = "") -> str:
    return f'{{sql: {{system: db, query: "{query}"{more}}}, assert: [{check}]}}'


def seen(done: Outcome, case: str = "c0") -> dict[str, object]:
    return dict(done.cases[case]["steps"][-1]["attempts"][-1])


def test_rows_have_their_types(run: Run, database: Database) -> None:
    """Numbers are numbers where that loses nothing, times ISO 8601 in UTC, bytes hex, documents documents."""
    query = (
        "select 1 as i, 12.5::numeric as n, 2::numeric as w, 12345678901234567890.5::numeric as big, true as b,"
        " null as nothing,"
        " '2026-01-02 03:04:05+01'::timestamptz as at, '{\\\"a\\\": [1]}'::jsonb as j, array[1,2] as l,"
        " decode('00ff', 'hex') as raw, 7 as i"
    )
    wanted = (
        "{rows.0: {eq: {i: 1, n: 12.5, w: 2, big: '12345678901234567890.5', b: true, nothing: null,"
        " at: '2026-01-02T02:04:05+00:00', j: {a: [1]}, l: [1, 2], raw: '00ff', i_2: 7}}}"
    )
    done = run(suite(ask(query, wanted)))

    assert done.code == 0, done.out


def test_args_are_bound_and_never_part_of_the_statement(run: Run, database: Database) -> None:
    more = """, args: ["x'; drop table orders; --", 1]"""
    done = run(suite(ask("select %s::text as t, id from orders where id = %s", "{rows.0.id: {eq: 1}}", more)))

    assert done.code == 0, done.out
    assert database.sql("select count(*) from orders") == [(3,)]


WRITES = (
    "insert into customers values (9, 'Eve')",
    "with w as (delete from orders returning *) select * from w",
    "select nextval(pg_get_serial_sequence('counters', 'id'))",
    "create table mine (id int)",
    "do $$ begin set transaction read write; delete from orders; end $$",
    "do $$ begin commit; delete from orders; end $$",
    "select set_config('transaction_read_only', 'off', true), (select count(*) from orders)",
    "commit; delete from orders",
    "select 1; delete from orders",
    "explain analyze delete from orders",
)
ENDS = ("commit", "rollback", "commit and chain", "rollback and chain")


def test_nothing_is_written_without_leave(run: Run, database: Database) -> None:
    """The transaction is read-only; no second statement gets out of it, and none of several leaves it."""
    database.sql("create table counters (id serial primary key)")
    several = [f"{{sql: {{system: db, transaction: [{end}, {AFTER}]}}, assert: [{EXISTS}]}}" for end in ENDS]
    done = run(suite(*(ask(statement, EXISTS) for statement in WRITES), *several))

    assert (done.code, set(done.verdicts.values())) == (1, {"failed"}), done.out
    assert all("refused" in case["reason"] for case in done.cases.values())
    assert database.sql("select (select count(*) from orders), (select count(*) from customers)") == [(3, 2)]
    assert database.sql("select to_regclass('mine'), last_value, is_called from counters_id_seq") == [(None, 1, False)]


def test_a_write_says_so_and_is_kept_or_undone(run: Run, database: Database) -> None:
    """`rollback` shows what would have been; several statements are kept together or not at all."""
    insert, last = "insert into customers values (%d, 'Eve')", "select count(*)::int as n from customers"
    undone = f'transaction: ["{insert % 7}", {last}], write: true, rollback: true'
    broken = f'transaction: ["{insert % 8}", "{insert % 8}"], write: true'
    done = run(
        suite(
            f"{{sql: {{system: db, {undone}}}, assert: [{{rows.0.n: {{eq: 3}}}}]}}",
            ask("update orders set state = 'paid' where id = 1", "{status: {eq: UPDATE 1}}", ", write: true"),
            f"{{sql: {{system: db, {broken}}}, assert: [{{error.code: {{eq: '23505'}}}}]}}",
            ask("insert into customers values (6, 'Eve') returning id", "{rows.0.id: {eq: 6}}", ", write: true"),
        )
    )

    assert done.code == 0, done.out
    assert database.sql("select id from customers order by id") == [(1,), (2,), (6,)]
    assert database.sql("select state from orders where id = 1") == [("paid",)]


def test_what_the_server_refuses_passes_only_what_asks_for_it(run: Run, database: Database) -> None:
    """An error is no answer: to assert nothing of it, or only how quick it was, is not to pass."""
    wrong = "select * from nowhere"
    done = run(
        suite(
            ask(wrong, "{latency: {lt: 10s}}"),
            ask(wrong, "{error.code: {eq: '42P01'}}, {error.class: {eq: client_error}}"),
            f"{{sql: {{system: db, query: {wrong}}}, assert: none}}",
        )
    )

    assert done.verdicts == {"c0": "failed", "c1": "passed", "c2": "errored"}
    assert "42P01" in done.cases["c0"]["reason"]


def test_a_statement_has_its_time(run: Run, database: Database) -> None:
    """The server ends it, and whatever it holds is free again."""
    slow = "select pg_sleep(60)"
    done = run(
        suite(
            ask(slow, "{error.class: {eq: timeout}}, {error.code: {eq: '57014'}}", ", statement_timeout: 200ms"),
            f"{{sql: {{system: db, query: {slow}}}, timeout: 300ms, assert: [{{error.class: {{eq: timeout}}}}]}}",
        )
    )

    assert done.code == 0, done.out
    running = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid()"
    assert database.sql(running) == [(0,)]


def test_more_rows_than_may_be_looked_at_cannot_be_judged(run: Run, database: Database) -> None:
    """A part of them would be judged as if it were all; no more is made than is looked at."""
    done = run(
        suite(
            ask("select generate_series(1, 1000000000) g", "{rows: {len: {gte: 1}}}", ", limit: 20"),
            ask("select g from generate_series(1, 20) g", "{rows: {len: {eq: 20}}}", ", limit: 20"),
            ask("select repeat('x', 1000000) from generate_series(1, 1000)", "{rows: {len: {gte: 1}}}"),
        )
    )

    assert done.verdicts == {"c0": "errored", "c1": "passed", "c2": "errored"}
    assert "more than 20 rows" in done.cases["c0"]["reason"]


def test_no_more_is_held_in_memory_than_may_be_looked_at(run: Run, database: Database) -> None:
    """Rows are taken one by one, of whatever statement; what is too much is broken off, and the connection goes on."""
    prepared = "prepare p as select repeat('x', 1000000) from generate_series(1, 200)"
    many = "insert into customers select g, 'x' from generate_series(10, 110) g returning repeat(name, 1000000)"
    exists = "assert: [{rows: {len: {gte: 1}}}]"
    with growth() as grown:
        done = run(
            suite(
                ask("select repeat('x', 4000000) from generate_series(1, 50)", "{rows: {len: {gte: 1}}}"),
                f'{{sql: {{system: db, transaction: ["{prepared}", execute p]}}, {exists}}}',
                ask(many, "{rows: {len: {gte: 1}}}", ", write: true"),
                ask("values (1), (2)", "{rows: {len: {eq: 2}}}"),
                ask("copy customers to stdout", "{error.class: {eq: client_error}}"),
                ask("show server_version", "{rows: {len: {eq: 1}}}, {status: {eq: SHOW}}"),
            )
        )

    print(f"400 MB in rows: memory grew by {grown.bytes / MIB:.0f} MiB")
    assert list(done.verdicts.values()) == ["errored"] * 3 + ["passed"] * 3, done.out
    assert all("more than 4194304 bytes" in done.cases[f"c{number}"]["reason"] for number in range(3))
    assert database.sql("select count(*) from customers") == [(2,)]
    assert grown.bytes < 60 * MIB


def test_nothing_of_a_step_is_left_on_its_connection(run: Run, database: Database) -> None:
    """The next one is given the same connection, as if it were new."""
    again = ask("insert into customers values (7, 'Eve') returning id", "{rows.0.id: {eq: 7}}", UNDONE)
    held = "locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())"
    left = "transaction: [create temp table t (id int), set work_mem = '9MB', select pg_advisory_lock(7)], write: true"
    done = run(
        suite(
            f"{{sql: {{system: db, {left}}}, assert: [{{status: {{eq: SELECT 1}}}}]}},"
            + ask(f"select count(*)::int as n from pg_locks where {held}", "{rows.0.n: {eq: 0}}")
            + ","
            + ask("select to_regclass('t') is null as gone", "{rows.0.gone: {eq: true}}")
            + ","
            + ask("show work_mem", "{rows.0.work_mem: {ne: 9MB}}")
            + f", {again}" * 7
        )
    )

    assert done.code == 0, done.out


def test_the_password_is_nowhere_in_what_is_kept(run: Run, database: Database, admin: Caller) -> None:
    """Neither when it is used, nor when it is wrong, nor when the database says it itself."""
    password = "controlplane-s3cret"
    changed = {"data": {"username": "controlplane", "password": password}}
    assert (
        admin("PATCH", f"credentials/{admin('GET', 'credentials/').json['results'][0]['id']}/", changed).status == 200
    )
    done = run(suite(ask(f"select 'say {password}' as said", "{rows.0.said: {exists: true}}")))
    wrong = seen(done)

    assert (done.code, wrong["error_class"]) == (1, "auth")
    assert password not in done.raw
    assert "password authentication failed" in str(done.raw)


def test_an_address_that_is_forbidden_is_not_connected_to(run: Run, admin: Caller) -> None:
    """libpq opens its own sockets, and gets only addresses that were checked."""
    assert admin("POST", "systems/", {"slug": "orders", "name": "Orders"}).status == 201
    wanted = {"system": "orders", "interface": "database", "protocol": "postgresql", "use": ["test"]}
    wanted |= {"host": "169.254.169.254", "config": {"database": "x"}}
    assert admin("POST", "endpoints/", wanted).status == 201
    done = run(suite(ask("select 1", "{error.class: {exists: true}}")))

    assert (done.code, done.verdicts["c0"]) == (2, "errored")
    assert "169.254.169.254" in done.cases["c0"]["reason"]


def test_a_server_that_is_away_is_said_to_be(run: Run, admin: Caller) -> None:
    assert admin("POST", "systems/", {"slug": "orders", "name": "Orders"}).status == 201
    wanted = {"system": "orders", "interface": "database", "protocol": "postgresql", "use": ["probe", "test"]}
    wanted |= {"host": "127.0.0.1", "port": free_port(), "config": {"database": "x"}}
    made = admin("POST", "endpoints/", wanted)
    done = run(suite(ask("select 1", "{error.class: {eq: connect}}")))
    probed = admin("POST", f"endpoints/{made.json['id']}/probe/")

    assert done.code == 0, done.out
    assert (probed.json["ok"], probed.json["error_class"]) == (False, "connect")


def test_production_is_not_written_to_without_leave(run: Run, admin: Caller, database: Database) -> None:
    assert admin("PATCH", "systems/orders/", {"environment": "production"}).status == 200
    write = ask("update orders set state = 'paid'", "{status: {exists: true}}", ", write: true")
    read = ask("select 1", "{rows: {len: {eq: 1}}}")
    refused, allowed = run(suite(write, read)), run(suite(write), "--allow-production")

    assert refused.verdicts == {"c0": "errored", "c1": "passed"}
    assert allowed.code == 0, allowed.out


@pytest.mark.parametrize("protocol", ["postgresql", "redis"])
def test_a_database_cannot_be_delivered_to(admin: Caller, protocol: str) -> None:
    """That is said when it is registered, by the name of the field."""
    assert admin("POST", "systems/", {"slug": "orders", "name": "Orders"}).status == 201
    config = {"database": "x"} if protocol == "postgresql" else {}
    wanted = {"system": "orders", "protocol": protocol, "host": "127.0.0.1", "config": config}
    refused = admin("POST", "endpoints/", wanted)

    assert (refused.status, refused.json["errors"][0]["field"]) == (400, "use")
    assert "cannot deliver" in refused.json["detail"]
    assert admin("POST", "endpoints/", {**wanted, "use": ["probe", "test"]}).status == 201


def test_a_probe_tells_the_version(admin: Caller, database: Database) -> None:
    endpoint = admin("GET", "endpoints/").json["results"][0]
    probed = admin("POST", f"endpoints/{endpoint['id']}/probe/")

    assert (probed.json["ok"], probed.json["detail"][:11]) == (True, "PostgreSQL ")
