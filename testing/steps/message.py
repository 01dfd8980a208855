"""`message:` send one message through the control plane, and await what comes of its deliveries."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError
from messaging.models import OPEN_STATES, Attempt, Delivery, Message, State
from messaging.services.sending import send
from testing.assertions.observation import Observation
from testing.document.kinds import ANYTHING, DURATION_S, VALUE, Field, Kind, ListOf, MapOf, Shape, choice, integer, text
from testing.document.references import as_text
from testing.steps.base import CannotRun, StepAction, Tools

SOONEST_S, LATEST_S = 0.02, 0.5
TYPES = ("request", "event", "command", "query", "notification", "heartbeat", "error")
PASSED_ON = (
    *("event_type", "priority", "ordering_key", "correlation_id", "recipient"),
    *("payload_base64", "content_type", "max_retries"),
)
NO_PAYLOAD: dict[str, Any] = {}
MOST_SAID = 500
NEVER_TRIED: dict[str, Any] = {"status_code": None, "answer": ""}


class MessageStep(StepAction):
    """`status` is `delivered` once all deliveries are, else the state of the first that is not; `rows` are they.

    `body` is the payload of the answer to a `request`.
    """

    SHAPE: ClassVar[Kind] = Shape(
        {
            "from": Field(text(63), "The alias of the system that sends.", required=True),
            "to": Field(ListOf(text(63), at_least=1, or_one=True), "Aliases that get it; routes decide without."),
            "payload": Field(ANYTHING, "The payload, as JSON.", default=NO_PAYLOAD),
            "payload_base64": Field(text(1024 * 1024), "The payload, as bytes, instead."),
            "content_type": Field(text(200), "Of the payload; JSON unless said."),
            "type": Field(choice(*TYPES, fixed=False), default="event"),
            "event_type": Field(text(200)),
            "priority": Field(choice("low", "normal", "high", "critical", "emergency", fixed=False)),
            "ordering_key": Field(text(200)),
            "correlation_id": Field(text(200)),
            "recipient": Field(text(200)),
            "headers": Field(MapOf(VALUE), default={}),
            "max_retries": Field(integer(0, 99), "How often a delivery is tried again: 0 has the outcome at once."),
            "ttl": Field(DURATION_S, "What is not delivered by then expires."),
            "within": Field(DURATION_S, "How long to wait for the outcome.", default=20.0),
        }
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("status", "rows", "body", "text", "size", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("from", "to")

    def writes(self, params: Any) -> bool:
        return True

    def names_all(self, params: Any) -> bool:
        return bool(params["to"])  # where it goes without is for the routes to say, at the time

    def aliases(self, params: Any) -> list[str]:
        return [params["from"], *(params["to"] or ())]

    async def run(self, params: Any, tools: Tools) -> Observation:
        message = _message(params, tools)
        started = time.perf_counter()
        message_id = await tools.ask_database(_send, message, tools.principal)
        until, pause_s = started + params["within"], SOONEST_S
        while True:
            rows, answer = await tools.ask_database(_outcome, message["source_system"], message_id)
            if _has_ended(rows, answer, params["type"]) or time.perf_counter() >= until:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LATEST_S)
        failed = next((row for row in rows if row["state"] != State.DELIVERED), None)
        return Observation(
            latency_ms=(time.perf_counter() - started) * 1000,
            status=failed["state"] if failed else "delivered" if rows else "unrouted",
            rows=rows,
            body=answer,
            error_class=failed["error_class"] if failed else "",
            error=failed["error"] if failed else "",
            request={"message_id": message_id, **message},
        )


def _message(params: Mapping[str, Any], tools: Tools) -> dict[str, Any]:
    """Return the message in the fields of the API."""
    message = {
        "source_system": tools.party(params["from"]).slug,
        "message_type": params["type"],
        "headers": {name: as_text(value) for name, value in params["headers"].items()},
        **{name: params[name] for name in PASSED_ON if params[name] is not None},
    }
    if params["payload_base64"] is None:
        message["payload"] = params["payload"]
    elif params["payload"] is not NO_PAYLOAD:
        raise CannotRun("payload and payload_base64 are both given")
    if params["ttl"] is not None:
        message["ttl"] = params["ttl"]
    if params["to"]:
        message["target_system"] = [tools.party(alias).target for alias in params["to"]]
    return message


def _has_ended(rows: list[dict[str, Any]], answer: bytes | None, message_type: str) -> bool:
    """Say whether nothing more can come: all ended, and what was asked is answered, or cannot be."""
    if any(row["state"] in OPEN_STATES for row in rows):
        return False
    asked = message_type == "request" and bool(rows)
    return not asked or answer is not None or any(row["state"] != State.DELIVERED for row in rows)


def _send(message: dict[str, Any], principal: Principal) -> str:
    try:
        return send(message, by=principal).message_id
    except ControlPlaneError as exc:
        raise CannotRun(f"the message was refused: {exc.detail}", exc.code) from exc


def _outcome(source: str, message_id: str) -> tuple[list[dict[str, Any]], bytes | None]:
    """Return how each delivery stands, and the payload of the answer if there is one."""
    message = Message.objects.get(source__slug=source, message_id=message_id)
    deliveries = list(Delivery.objects.filter(message=message).select_related("system").order_by("id"))
    last = _last_tries(message)  # after them: a delivery that has ended has its last try
    rows = [
        {
            "system": delivery.system.slug,
            "interface": delivery.interface,
            "state": str(delivery.state),
            "reason": str(delivery.reason),
            "error_class": delivery.error_class,
            "error": delivery.error,
            "ack_level": delivery.ack_level,
            "attempts": delivery.attempts,
            **last.get(delivery.pk, NEVER_TRIED),
        }
        for delivery in deliveries
    ]
    # An answer bears the id of the delivery that it answers.
    ids = [str(delivery.pk) for delivery in deliveries]
    answer = Message.objects.filter(message_id__in=ids, message_type="response").order_by("position").first()
    return rows, None if answer is None or answer.payload is None else bytes(answer.payload)


def _last_tries(message: Message) -> dict[Any, dict[str, Any]]:
    """Return what the last try of each delivery was answered: its status, and the beginning of what was said."""
    tries = Attempt.objects.filter(delivery__message=message).order_by("number", "id")
    return {
        key: {"status_code": code, "answer": bytes(said or b"")[:MOST_SAID].decode("utf-8", "replace")}
        for key, code, said in tries.values_list("delivery_id", "status_code", "response_body")
    }
