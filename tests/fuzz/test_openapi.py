"""What the OpenAPI document promises is asked for in many odd ways: no answer may be a fault of ours."""

from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode

from tests.stack import Stack

SETTINGS = hypothesis.settings(
    max_examples=8,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LISTS = (
    *("systems/", "endpoints/", "credentials/", "keys/", "audit/", "messages/", "deliveries/"),
    *("dead-letters/", "attempts/", "ledger/", "jobs/", "suites/", "runs/", "/api/services"),
)
# What changes or removes the rows that the others ask for comes last.
METHODS = ("get", "post", "patch", "put", "delete")


@pytest.mark.timeout(600)
def test_no_input_the_document_allows_or_forbids_is_our_fault(stack: Stack) -> None:
    """Every operation, with fitting and unfitting input, on rows that exist and others; then every list still reads."""
    known = populate(stack)
    document = stack.api("GET", "schema/").json()
    document["components"].pop("securitySchemes")  # generated keys would only ever show that they are refused
    for methods in document["paths"].values():
        for operation in methods.values():
            operation.pop("security", None)
    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    operations.sort(key=lambda operation: METHODS.index(operation.method.lower()))
    assert len(operations) > 20

    faults = [
        fault for operation in operations for mode in GenerationMode for fault in ask(stack, operation, mode, known)
    ]
    assert faults == []
    for path in LISTS:
        assert stack.api("GET", path).status_code == 200, path


def populate(stack: Stack) -> dict[str, str]:
    """Make a row of each kind; return path parameters that name them, `id` by the path it stands in."""
    stack.register("shop")
    stack.register("crm", url="http://127.0.0.1:9/")
    sent = {"message_id": "m-1", "source_system": "shop", "target_system": "crm", "payload": {"n": 1}}
    assert stack.api("POST", "messages/", json=sent).status_code == 202
    stack.wait_for(lambda: stack.api("GET", "attempts/").json()["results"], what="an attempt")
    assert stack.api("POST", "jobs/", json={"action": "cancel", "filter": {"system": "crm"}}).status_code == 202
    ids = {
        name: stack.api("GET", f"{name}/").json()["results"][0]["id"]
        for name in ("endpoints", "deliveries", "attempts", "jobs")
    }
    return {"slug": "crm", "system": "crm", "interface": "main", "message_id": "m-1", **ids}


def ask(stack: Stack, operation: Any, mode: GenerationMode, known: dict[str, str]) -> list[str]:
    """Return the faults among the answers to generated requests: our own, and what the document does not name."""
    faults: list[str] = []
    resource = operation.path.removeprefix("/api/v1/").partition("/")[0]

    @SETTINGS
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), on_known=hypothesis.strategies.booleans())
    def call(case: Any, on_known: bool) -> None:
        if on_known:
            found = {**known, "id": known.get(resource, "")}
            case.path_parameters = {name: found.get(name) or value for name, value in case.path_parameters.items()}
        if isinstance((case.query or {}).get("wait"), (int, float)):
            case.query["wait"] = min(case.query["wait"], 1)  # as long as was asked for, but not a minute a case
        key = {"Authorization": f"Bearer {stack.key()}", **({"X-Source-System": "shop"} if on_known else {})}
        response = case.call(base_url=stack.url, headers=key, session=stack.session, timeout=60)
        if response.status_code >= 500 or str(response.status_code) not in operation.definition.raw["responses"]:
            faults.append(f"{response.status_code} {response.text[:200]} for {case.as_curl_command()}")

    try:
        call()
    except hypothesis.errors.Unsatisfiable:
        return []  # nothing unfits an operation that takes no input
    return faults
