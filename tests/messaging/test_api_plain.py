"""The plain endpoints: liveness without a database, readiness, numbers for machines, settings without secrets."""

from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families

from endpoints.models import Breaker, BreakerState, Endpoint
from messaging import store
from messaging.models import State
from tests.messaging.api_client import Api
from tests.messaging.factories import NOW, make_delivery, make_endpoint, make_key, make_system, make_team


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return a Prometheus text as {name: [(labels, value)]}; the library's own parser reads it."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_liveness_asks_no_database(client: Client, db: None) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/healthz").json() == {"status": "ok"}
    assert len(queries) == 0


def test_the_address_alone_leads_to_the_pages(client: Client, db: None) -> None:
    """Who opens what `make run` names, without a path, is not told that nothing is there."""
    answer = client.get("/")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


def test_readiness_needs_the_database_and_its_tables(client: Client, db: None) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}


def test_health_is_what_the_status_command_says(viewer: Api) -> None:
    make_delivery(state=State.DEAD)
    status, body = viewer.get("/api/health")

    assert status == 200
    assert body.keys() >= {"state", "processes", "waiting", "oldest_due_s", "dead_unresolved", "endpoints", "runs"}
    assert body["dead_unresolved"] == 1


def test_health_counts_each_endpoint_once(viewer: Api) -> None:
    """One that its breaker holds back is counted as that, and not by its health as well."""
    held, _, paused = (make_endpoint(make_system(slug)) for slug in ("erp", "crm", "shop"))
    Breaker.objects.create(endpoint=held, state=BreakerState.OPEN, written_at=NOW)
    Breaker.objects.create(endpoint=paused, state=BreakerState.OPEN, written_at=NOW)
    Endpoint.objects.filter(pk=paused.pk).update(state="paused")

    assert viewer.get("/api/health")[1]["endpoints"] == {"breaker_open": 1, "unknown": 1, "paused": 1}


def test_metrics_count_what_waits_and_what_was_done(viewer: Api) -> None:
    crm = make_system("crm")
    make_endpoint(crm)
    make_delivery(system=crm, state=State.PENDING)
    store.add_rollups(
        {
            (NOW, crm.pk, "delivered", ""): (3, 0.0),
            (NOW, crm.pk, "dead", "timeout"): (2, 0.0),
            (NOW, crm.pk, "took", "0.25"): (4, 900.0),
            (NOW, crm.pk, "took", "+Inf"): (1, 600.0),
        }
    )
    response = viewer.client.get("/metrics")
    found = samples(response.content.decode())

    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert found["controlplane_waiting"] == [({"system": "crm", "reason": "new"}, 1.0)]
    assert found["controlplane_delivered_total"] == [({"system": "crm"}, 3.0)]
    assert found["controlplane_dead_total"] == [({"system": "crm", "error_class": "timeout"}, 2.0)]
    assert found["controlplane_attempt_seconds_sum"] == [({"system": "crm"}, 1.5)]
    assert found["controlplane_attempt_seconds_count"] == [({"system": "crm"}, 5.0)]
    buckets = {labels["le"]: count for labels, count in found["controlplane_attempt_seconds_bucket"]}
    assert [buckets[bound] for bound in ("0.1", "0.25", "30.0", "+Inf")] == [0, 4, 4, 5]
    [(labels, late_s)] = found["controlplane_oldest_due_seconds"]
    assert labels == {"system": "crm"}
    assert late_s > 0


def test_metrics_as_json_hold_the_same_samples(viewer: Api) -> None:
    make_delivery(system="crm", state=State.PENDING)
    _, body = viewer.get("/api/metrics")

    assert body["controlplane_waiting"] == [{"system": "crm", "reason": "new", "value": 1.0}]
    assert body.keys() == samples(viewer.client.get("/metrics").content.decode()).keys()


@pytest.mark.parametrize("accept", ["application/json", "text/html", "application/openmetrics-text", "*/*"])
def test_prometheus_gets_text_whatever_it_asks_for(viewer: Api, accept: str) -> None:
    response = viewer.client.get("/metrics", headers={"Accept": accept})

    assert (response.status_code, response.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")


def test_metrics_and_services_show_a_team_its_own_systems(db: None) -> None:
    north, south = make_team("north"), make_team("south")
    make_delivery(system=make_system("a", owner=north), state=State.PENDING)
    make_delivery(system=make_system("b", owner=south), state=State.PENDING)
    api = Api(make_key("viewer", team=north))

    assert [row["system"] for row in api.get("/api/metrics")[1]["controlplane_waiting"]] == ["a"]
    assert [row["slug"] for row in api.results("/api/services")] == ["a", "shop"]


def test_services_tell_the_worst_health_of_each_system(viewer: Api) -> None:
    erp = make_system("erp")
    make_endpoint(erp, health="healthy")
    make_endpoint(erp, health="down")
    make_endpoint(erp, health="down", state="disabled", name="old")
    make_endpoint(make_system("crm"), health="down", state="disabled")
    broken = make_endpoint(make_system("shop"))
    Breaker.objects.create(pk=broken.pk, state="half_open", written_at=NOW)
    found = {row["slug"]: row["health"] for row in viewer.results("/api/services")}

    assert found == {"erp": "down", "crm": "unknown", "shop": "down"}


def test_the_settings_are_for_admins_and_hold_no_secret(admin: Api, operator: Api) -> None:
    response = admin.client.get("/api/config")
    secrets: list[Any] = [settings.SECRET_KEY, *settings.ENV.encryption_keys]

    assert operator.get("/api/config")[0] == 403
    assert response.json()["SECRET_KEY"]["value"] == "***"
    assert not any(secret in response.content.decode() for secret in secrets)
