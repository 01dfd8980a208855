"""The `postgresql` pack against a real server with the example's tables, sound and broken."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

import examples
from tests.endpoints.conftest import Caller
from tests.packs.harness import Mutation, RunPack, hold_to_table
from tests.testing.targets import Database, fresh_database

SCHEMA = (Path(examples.__file__ or "").parent / "postgresql" / "shop.sql").read_text()
ROLE = "suite_pack"
TRIGGER = """
CREATE FUNCTION public.broken() RETURNS trigger LANGUAGE plpgsql AS '{body}';
CREATE FUNCTION public.breaks() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE made record; BEGIN
  FOR made IN SELECT objid::regclass AS name FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table'
    AND objid::regclass::text LIKE '%{table}%'
  LOOP
    EXECUTE format('CREATE TRIGGER broken BEFORE {event} ON %s FOR EACH ROW EXECUTE FUNCTION broken()', made.name);
  END LOOP; END $$;
CREATE EVENT TRIGGER breaks ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.breaks();
"""
EVERY = (
    *("connects", "takes-many-at-once", "leaves-nothing-open", "answers-queries", "answers-quickly", "uses-indexes"),
    *("keeps-what-is-committed", "undoes-what-fails", "loses-no-update", "has-its-tables", "has-its-columns"),
    *("has-no-orphans", "refuses-orphans", "refuses-what-is-wrong", "holds-constraints", "is-consistent"),
)
SWITCHES = {
    "closed": "ALTER DATABASE {name} ALLOW_CONNECTIONS false",
    "few-connections": f"ALTER ROLE {ROLE} CONNECTION LIMIT 4",
    "forgets-writes": TRIGGER.format(table="pack_kept", event="INSERT", body="BEGIN RETURN NULL; END"),
    "swallows-doubles": TRIGGER.format(
        table="pack_undone", event="INSERT", body="BEGIN NEW.id = floor(random() * 1e9); RETURN NEW; END"
    ),
    "loses-updates": TRIGGER.format(table="pack_counted", event="UPDATE", body="BEGIN RETURN OLD; END"),
    "slow": "CREATE OR REPLACE VIEW shop.totals AS SELECT customer_id, sum(total) AS total FROM shop.orders,"
    " pg_sleep(2.5) GROUP BY customer_id",
    "no-index": "DROP INDEX shop.orders_by_customer",
    "table-gone": "ALTER TABLE shop.order_items RENAME TO items",
    "other-type": "ALTER TABLE shop.orders ALTER created_at TYPE timestamp",
    "orphaned": "SET session_replication_role = replica; DELETE FROM shop.customers WHERE id = 7",
    "no-foreign-key": "ALTER TABLE shop.orders DROP CONSTRAINT orders_customer_id_fkey",
    "no-check": "ALTER TABLE shop.orders DROP CONSTRAINT orders_state_check",
    "no-unique": "ALTER TABLE shop.customers DROP CONSTRAINT customers_email_key",
    "null-allowed": "ALTER TABLE shop.customers ALTER email DROP NOT NULL",
    "unproven": "ALTER TABLE shop.orders ADD CONSTRAINT small CHECK (total < 1000000) NOT VALID",
    "contradicts": "UPDATE shop.orders SET total = total + 1 WHERE id = 9",
    "left-open": "",
}
MUTATIONS = (
    Mutation("closed", EVERY, "not currently accepting connections"),
    Mutation("few-connections", ("takes-many-at-once",), "too many connections"),
    Mutation("forgets-writes", ("keeps-what-is-committed",), "expected 'INSERT 0 2', got 'INSERT 0 0'"),
    Mutation("swallows-doubles", ("undoes-what-fails",), "error.code is not there"),
    Mutation("loses-updates", ("loses-no-update",), "rows[0].n: expected 3, got 0"),
    Mutation("slow", ("answers-quickly",), "latency"),
    Mutation("no-index", ("uses-indexes",), "Seq Scan"),
    Mutation("table-gone", ("has-its-tables", "is-consistent"), "expected '', got 'order_items'"),
    Mutation("other-type", ("has-its-columns",), "orders.created_at:timestamptz is timestamp"),
    Mutation("orphaned", ("has-no-orphans",), "orders_customer_id_fkey: 10"),
    Mutation("no-foreign-key", ("refuses-orphans",), "error.code is not there"),
    Mutation("no-check", ("refuses-what-is-wrong",), "error.code is not there"),
    Mutation("no-unique", ("refuses-what-is-wrong",), "error.code is not there"),
    Mutation("null-allowed", ("refuses-what-is-wrong",), "error.code is not there"),
    Mutation("unproven", ("holds-constraints",), "got 'small'"),
    Mutation("contradicts", ("is-consistent",), "rows"),
    Mutation("left-open", ("leaves-nothing-open",), "rows"),
)


class Shop:
    """The example's tables on a real server, made anew for every switch; a session that is left open is the test's."""

    def __init__(self, whole: Database, database: Database) -> None:
        self._whole, self._database = whole, database
        self._name = urlsplit(database.url).path[1:]
        self._open = ExitStack()

    @property
    def url_of_role(self) -> str:
        return urlsplit(self._database.url)._replace(netloc=f"{ROLE}:s3cret-of-{ROLE}@{self.place}").geturl()

    @property
    def place(self) -> str:
        return urlsplit(self._database.url).netloc.rpartition("@")[2]

    def break_by(self, switch: str) -> None:
        self._open.close()
        self._whole.sql(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")
        self._whole.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
        self._database.sql("DROP EVENT TRIGGER IF EXISTS breaks")
        self._database.sql(
            "DROP FUNCTION IF EXISTS public.breaks(), public.broken(); DROP SCHEMA IF EXISTS shop CASCADE"
        )
        self._database.sql(SCHEMA)
        self._database.sql(f"GRANT ALL ON SCHEMA shop TO {ROLE}; GRANT ALL ON ALL TABLES IN SCHEMA shop TO {ROLE}")
        if switch == "left-open":
            session = self._open.enter_context(psycopg.connect(self.url_of_role))
            session.execute("SELECT 1")
            session.execute("SELECT pg_sleep(1.5)")
        elif switch == "closed":
            self._whole.sql(SWITCHES[switch].format(name=self._name))
        elif switch:
            self._database.sql(SWITCHES[switch])

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def shop(admin: Caller, postgres_url: str) -> Iterator[Shop]:
    whole = Database(postgres_url)
    whole.sql(
        f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN PASSWORD 's3cret-of-{ROLE}'; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    with fresh_database(postgres_url, f"pack_{os.getpid()}") as database:
        made = Shop(whole, database)
        secret = {"username": ROLE, "password": f"s3cret-of-{ROLE}"}
        assert admin("POST", "credentials/", {"name": "pack-db", "kind": "basic", "data": secret}).status == 201
        assert admin("POST", "systems/", {"slug": "postgresql", "name": "Shop", "kind": "database"}).status == 201
        wanted = {**database.endpoint, "system": "postgresql", "interface": "main", "credential": "pack-db"}
        assert (answer := admin("POST", "endpoints/", wanted)).status == 201, answer.json
        yield made
        made.close()


def test_the_pack_fails_in_the_right_case(run_pack: RunPack, shop: Shop) -> None:
    """Against sound tables it passes; broken in one way, exactly the cases that are there to see it fail."""
    hold_to_table(run_pack, "postgresql", shop, SWITCHES, MUTATIONS, "--var=quick=2s", "--var=open_for=1")
