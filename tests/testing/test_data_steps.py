"""The steps `redis`, `promql`, `grafana` and `graphql` against real servers, and a Grafana that says it is none."""

import json
from collections.abc import Callable

from tests.endpoints.conftest import Caller
from tests.servers.grafana import FakeGrafana
from tests.servers.http import HttpReceiver
from tests.servers.ports import free_port
from tests.servers.prometheus import Prometheus
from tests.servers.redis import Redis
from tests.testing.conftest import Outcome, answer
from tests.testing.targets import register_http

Run = Callable[..., Outcome]


def suite(kind: str, *steps: str, system: str = "") -> str:
    """Return a suite with one case for each `params, assertions`, or the same in one case for `;`."""
    cases = ""
    for number, several in enumerate(steps):
        written = (step.strip().partition(" -> ") for step in several.split(";"))
        done = ", ".join(f"{{{kind}: {{system: it, {params}}}, assert: [{check}]}}" for params, _, check in written)
        cases += f"  - {{case: c{number}, steps: [{done}]}}\n"
    return f"suite: data\nsystems: {{it: {system or kind}}}\ncases:\n{cases}"


# --- redis


def test_redis_answers_are_rows_texts_and_documents(run: Run, cache: Redis) -> None:
    """What is written says so; each kind of answer can be asked for what it holds."""
    done = run(
        suite(
            "redis",
            'command: [SET, "k", "{\\"state\\": \\"new\\"}"], write: true -> {text: {eq: OK}};'
            "command: GET k -> {body.$.state: {eq: new}};"
            "command: [RPUSH, l, a, b], write: true -> {rows.0: {eq: 2}};"
            "command: [LRANGE, l, 0, -1] -> {rows: {eq: [a, b]}};"
            "command: [HSET, h, n, 1], write: true -> {rows.0: {eq: 1}};"
            "command: HGETALL h -> {rows.0.n: {eq: '1'}}, {body.$.n: {eq: '1'}};"
            "command: GET nothing -> {rows: {len: {eq: 0}}};"
            "command: [INFO, server] -> {text: {search: 'redis_version:7'}}",
            system="cache",
        )
    )

    assert done.code == 0, done.out
    assert Redis.password not in done.raw


def test_redis_is_not_written_to_by_chance(run: Run, cache: Redis) -> None:
    """A command that is not known to read asks for leave; what is about the server is not asked at all."""
    done = run(
        suite(
            "redis",
            "command: SET k v -> {text: {eq: OK}}",
            "command: [CONFIG, GET, requirepass], write: true -> {rows: {len: {gte: 0}}}",
            "command: [SET, k, v], write: true -> {text: {eq: OK}}; command: [LPUSH, k, v], write: true ->"
            " {error.code: {eq: WRONGTYPE}}; command: LLEN k -> {latency: {lt: 10s}}",
            system="cache",
        )
    )

    assert done.verdicts == {"c0": "errored", "c1": "errored", "c2": "failed"}
    assert "say write: true" in done.cases["c0"]["reason"]
    assert "refused: client_error, WRONGTYPE" in done.cases["c2"]["reason"]


def test_redis_scripts_and_upkeep_are_no_reads(run: Run, cache: Redis) -> None:
    """A script holds up the whole server for as long as it runs, and MEMORY frees: only what it uses is read."""
    done = run(
        suite(
            "redis",
            "command: [EVAL_RO, 'return 1', 0] -> {rows.0: {eq: 1}}",
            "command: [EVALSHA_RO, abc, 0] -> {error.code: {eq: NOSCRIPT}}",
            "command: [FCALL_RO, f, 0] -> {error.code: {eq: ERR}}",
            "command: memory purge -> {text: {eq: OK}}",
            "command: memory usage k -> {rows: {len: {eq: 0}}}",
            "command: [EVAL_RO, 'return 1', 0], write: true -> {rows.0: {eq: 1}}",
            system="cache",
        )
    )

    assert list(done.verdicts.values()) == ["errored"] * 4 + ["passed"] * 2, done.out
    assert "MEMORY may change something; say write: true" in done.cases["c3"]["reason"]


def test_redis_answers_have_a_bound(run: Run, cache: Redis) -> None:
    """An answer of 10 MB is cut off and said to be; the next step gets a connection of its own."""
    long = "command: [SETRANGE, k, 10000000, x], write: true -> {rows.0: {eq: 10000001}}"
    done = run(
        suite(
            "redis",
            f"{long}; command: GET k -> {{error.class: {{eq: protocol}}}}; command: PING -> {{text: {{eq: PONG}}}}",
            system="cache",
        )
    )

    assert done.code == 0, done.out


def test_redis_tells_what_went_wrong(run: Run, admin: Caller, cache: Redis) -> None:
    """A wrong password is auth, nobody there is connect, a forbidden address is not connected to."""
    assert admin("POST", "systems/", {"slug": "other", "name": "Other"}).status == 201
    for interface, port, host in (
        ("open", cache.port, "127.0.0.1"),
        ("gone", free_port(), "127.0.0.1"),
        ("no", 6379, "169.254.169.254"),
    ):
        wanted = {"system": "other", "interface": interface, "protocol": "redis", "host": host, "port": port}
        made = admin("POST", "endpoints/", {**wanted, "use": ["probe", "test"]})
        assert made.status == 201
    ask = "command: PING -> {error.class: {eq: %s}}"
    seen = [
        run(suite("redis", ask % error, system=f"other/{interface}")).verdict
        for interface, error in (("open", "auth"), ("gone", "connect"), ("no", "blocked_address"))
    ]
    probes = [
        admin("POST", f"endpoints/{row['id']}/probe/").json
        for row in admin("GET", "endpoints/?system=cache").json["results"]
    ]

    assert seen == ["passed", "passed", "errored"]
    assert [(probe["ok"], probe["detail"]) for probe in probes] == [(True, "PONG")]


# --- promql


def test_promql_gives_series_with_numbers(run: Run, metrics: Prometheus) -> None:
    """Vectors, scalars and ranges are rows; a query that finds nothing has none."""
    now = metrics.ask("query", "time()")[0]
    done = run(
        suite(
            "promql",
            "query: up -> {rows: {len: {eq: 1}}}, {rows.0.value: {eq: 1}}, {rows.0.metric.job: {eq: targets}}",
            "query: scalar(vector(2.5)) -> {rows.0.value: {eq: 2.5}}",
            f"query: up, start: {now - 1}, end: {now}, step: 1s -> {{rows.0.values: {{len: {{gte: 1}}}}}}",
            "query: up == 7 -> {rows: {len: {eq: 0}}}",
            "query: 0 / 0 -> {rows.0.value: {gte: 0}}",
            "query: up == 7 -> {rows.0.value: {exists: true}}",
            system="metrics",
        )
    )

    expected = ["passed"] * 4 + ["failed"] * 2  # NaN passes nothing, and what is not there fails
    assert list(done.verdicts.values()) == expected, done.out


def test_promql_that_is_refused_passes_only_what_asks_for_it(
    run: Run, metrics: Prometheus, grafana: FakeGrafana
) -> None:
    done = run(
        suite(
            "promql",
            "query: 'up{' -> {error.code: {eq: bad_data}}, {error.class: {eq: client_error}}",
            "query: 'up{' -> {latency: {lt: 10s}}",
            system="metrics",
        )
    )
    other = run(suite("promql", "query: up -> {error.code: {eq: not_prometheus}}", system="grafana"))

    assert done.verdicts == {"c0": "passed", "c1": "failed"}
    assert other.code == 0, other.out


# --- grafana


def test_grafana_is_asked_for_what_it_has(run: Run, grafana: FakeGrafana) -> None:
    """A fake stands for it here, and says so: its version is `fake`."""
    done = run(
        suite(
            "grafana",
            "ask: health -> {rows.0.database: {eq: ok}}, {rows.0.version: {eq: fake}}",
            "ask: dashboards, tag: controlplane -> {rows: {len: {gte: 1}}}",
            "ask: dashboard, uid: deliveries -> {rows.0.panels: {len: {eq: 3}}}, {rows.0.datasources: {eq: [prom]}}",
            "ask: datasource_health, uid: prom -> {rows.0.status: {eq: OK}}",
            "ask: rules -> {rows.0.state: {eq: inactive}}, {rows.0.health: {eq: ok}}",
            "ask: alerts -> {rows: {len: {eq: 0}}}",
            "ask: dashboard, uid: gone -> {error.code: {eq: '404'}}",
            "ask: dashboard, uid: gone -> {latency: {lt: 10s}}",
        )
    )

    assert list(done.verdicts.values()) == ["passed"] * 7 + ["failed"], done.out
    assert "tag=controlplane" in next(found.path for found in grafana.received if "search" in found.path)


# --- graphql


def test_graphql_errors_are_no_answer(run: Run, admin: Caller, http_receiver: HttpReceiver) -> None:
    """A status of 200 with errors in it passes nothing but what asks for the error."""
    register_http(admin, "graphql", http_receiver.port, "service")
    wrong = {"data": None, "errors": [{"message": "no such order", "extensions": {"code": "NOT_FOUND"}}]}
    http_receiver.answer(answer(200, {"data": {"order": {"id": 7}}}), answer(200, wrong))
    one = "query: 'query($id: Int) {order(id: $id) {id}}', variables: {id: 7}, path: /graphql"
    done = run(
        suite(
            "graphql",
            f"{one} -> {{body.$.data.order.id: {{eq: 7}}}}",
            f"{one} -> {{status: {{eq: 200}}}}",
            f"{one} -> {{error.code: {{eq: NOT_FOUND}}}}",
        )
    )

    assert done.verdicts == {"c0": "passed", "c1": "failed", "c2": "passed"}
    assert "NOT_FOUND" in done.raw
    assert "no such order" in done.cases["c1"]["reason"]
    assert json.loads(http_receiver.received[0].body)["variables"] == {"id": 7}


def test_a_mutation_is_a_write(run: Run, admin: Caller, http_receiver: HttpReceiver) -> None:
    """Production is not changed without leave; the word in a text or a comment changes nothing."""
    register_http(admin, "graphql", http_receiver.port, "service")
    assert admin("PATCH", "systems/graphql/", {"environment": "production"}).status == 200
    http_receiver.answer(answer(200, {"data": {}}))
    done = run(
        suite(
            "graphql",
            "query: 'mutation {pay {id}}' -> {status: {eq: 200}}",
            "query: '{say(it: \"mutation\") {id}} # mutation' -> {status: {eq: 200}}",
        )
    )

    assert done.verdicts == {"c0": "errored", "c1": "passed"}
    assert len(http_receiver.received) == 1


def test_a_mutation_cannot_be_hidden(run: Run, admin: Caller, http_receiver: HttpReceiver) -> None:
    """Comments and texts end where a server ends them: at a lone CR too, and not at a quote that is escaped."""
    register_http(admin, "graphql", http_receiver.port, "service")
    assert admin("PATCH", "systems/graphql/", {"environment": "production"}).status == 200
    http_receiver.answer(answer(200, {"data": {}}))
    hidden = (
        "# only a comment\rmutation {pay {id}}",
        '{say(it: """a\\\\""" """) {id}} mutation {pay {id}} # """',
    )
    said = '{say(it: """one " and \\""" mutation""") {id}} # mutation\r{more(it: "\\"mutation") {id}}'
    done = run(
        suite("graphql", *(f"query: {json.dumps(query)} -> {{status: {{eq: 200}}}}" for query in (*hidden, said)))
    )

    assert done.verdicts == {"c0": "errored", "c1": "errored", "c2": "passed"}
    assert len(http_receiver.received) == 1
