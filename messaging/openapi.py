"""What the OpenAPI document says of the ways in: they are answered in front of Django, and described all the same."""

from typing import Any

from messaging.intake.cloudevents import BATCH, STRUCTURED
from messaging.intake.fields import PRIORITIES
from messaging.intake.heads import MAX_WAIT_S
from messaging.intake.reading import MAX_BATCH_ITEMS
from messaging.models import MessageType

_ID = {"type": "string", "minLength": 1, "maxLength": 128}
_TEXT = {"type": "string", "maxLength": 200, "nullable": True}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}, "nullable": True}
_TIME = {"type": "string", "format": "date-time", "nullable": True}
_COUNT = {"type": "integer", "minimum": 0}

MESSAGE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "description": "One message. Give `payload` or `payload_base64`, and `source_system` unless the key is bound.",
    "properties": {
        "message_id": {**_ID, "nullable": True, "description": "Unique per source; made up when absent."},
        "source_system": {"type": "string", "maxLength": 63, "nullable": True},
        "target_system": {
            "nullable": True,
            "description": "`slug`, `slug/interface`, a list of them, or `*`; absent: routes decide.",
            "oneOf": [
                {"type": "string", "maxLength": 127},
                {"type": "array", "items": {"type": "string", "maxLength": 127}, "minItems": 1, "maxItems": 100},
            ],
        },
        "message_type": {"type": "string", "enum": MessageType.values, "default": "event"},
        "event_type": _TEXT,
        "priority": {"type": "string", "enum": list(PRIORITIES), "default": "normal"},
        "timestamp": _TIME,
        "payload": {"description": "Any JSON but null."},
        "payload_base64": {"type": "string", "format": "byte", "nullable": True},
        "content_type": {"type": "string", "maxLength": 200, "default": "application/json"},
        "headers": _TEXTS,
        "correlation_id": _TEXT,
        "reply_to": {**_TEXT, "maxLength": 127},
        "ordering_key": _TEXT,
        "recipient": _TEXT,
        "search_keys": {**_TEXTS, "maxProperties": 20},
        "ttl": {"type": "number", "minimum": 0.001, "nullable": True, "description": "Seconds from acceptance."},
        "deliver_at": _TIME,
        "max_retries": {"type": "integer", "minimum": 0, "maximum": 99, "nullable": True},
        "idempotency_key": _TEXT,
    },
}
ACCEPTED: dict[str, Any] = {
    "type": "object",
    "required": ["message_id", "status", "deliveries"],
    "properties": {
        "message_id": {"type": "string"},
        "status": {"type": "string", "enum": ["accepted", "duplicate"]},
        "deliveries": _COUNT,
    },
}
RESULT: dict[str, Any] = {
    "type": "object",
    "required": ["index", "message_id", "status", "code", "detail"],
    "properties": {
        "index": _COUNT,
        "message_id": {
            "type": "string",
            "nullable": True,
            "description": "Of a rejected one what it calls itself, null where that cannot be read.",
        },
        "status": {"type": "string", "enum": ["accepted", "duplicate", "rejected"]},
        "code": {"type": "string", "nullable": True},
        "detail": {"type": "string", "nullable": True},
    },
}
SUMMARY: dict[str, Any] = {
    "type": "object",
    "description": "Of an array or a stream; a stream lists only what was rejected, the first 1,000.",
    "required": ["accepted", "duplicate", "rejected", "results"],
    "properties": {
        "accepted": _COUNT,
        "duplicate": _COUNT,
        "rejected": _COUNT,
        "results": {"type": "array", "items": RESULT},
    },
}
OUTCOME: dict[str, Any] = {
    "type": "object",
    "description": "With `?wait=`: what became of it, and what the target answered to a request.",
    "required": ["message_id", "status", "deliveries", "response"],
    "properties": {
        "message_id": {"type": "string"},
        "status": {"type": "string"},
        "deliveries": {"type": "array", "items": {"type": "object"}},
        "response": {"type": "object", "nullable": True},
    },
}
EVENT: dict[str, Any] = {
    "type": "object",
    "description": "A CloudEvent 1.0 in structured mode; attributes without a field are kept as `ce-` headers.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"type": "string", "enum": ["1.0"]},
        "id": {**_ID, "description": "Becomes `message_id`."},
        "source": {"type": "string", "minLength": 1, "description": "The source system, if it is the name of one."},
        "type": {"type": "string", "minLength": 1, "maxLength": 200, "description": "Becomes `event_type`."},
        "time": _TIME,
        "datacontenttype": {"type": "string", "maxLength": 200, "default": "application/json"},
        "data": {"description": "Any JSON, or text when `datacontenttype` is not JSON."},
        "data_base64": {"type": "string", "format": "byte", "nullable": True},
        "sourcesystem": {"type": "string", "maxLength": 63, "description": "Becomes `source_system`."},
        "targetsystem": {"type": "string", "description": "Becomes `target_system`; several are separated by commas."},
        "partitionkey": {"type": "string", "maxLength": 200, "description": "Becomes `ordering_key`."},
        "correlationid": {"type": "string", "maxLength": 200, "description": "Becomes `correlation_id`."},
    },
}
REQUEST: dict[str, Any] = {
    "application/json": {"oneOf": [MESSAGE, {"type": "array", "items": MESSAGE, "maxItems": MAX_BATCH_ITEMS}]},
    "application/x-ndjson": {"type": "string", "description": "One message a line, any number of lines."},
    STRUCTURED: EVENT,
    BATCH: {"type": "array", "items": EVENT, "maxItems": MAX_BATCH_ITEMS},
}
HOOK_FAILURES = ("400", "401", "403", "404", "408", "409", "413", "415", "422", "429", "503")
RESPONSES: dict[int, dict[str, Any]] = {200: OUTCOME, 202: {"oneOf": [ACCEPTED, SUMMARY, OUTCOME]}}
WAIT: dict[str, Any] = {
    "name": "wait",
    "in": "query",
    "description": "Seconds to wait for the outcome; single messages only.",
    "schema": {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S},
}
IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "For 24 hours the same key answers the same; single messages only.",
    "schema": {"type": "string", "maxLength": 200},
}
RAW_HEADERS = {
    "X-Source-System": {"type": "string", "maxLength": 63},
    "X-Message-Id": _ID,
    "X-Message-Type": {"type": "string", "enum": MessageType.values},
    "X-Event-Type": {"type": "string", "maxLength": 200},
    "X-Priority": {"type": "string", "enum": list(PRIORITIES)},
    "X-Correlation-Id": {"type": "string", "maxLength": 200},
    "X-Ordering-Key": {"type": "string", "maxLength": 200},
    "X-Ttl": {"type": "number", "minimum": 0.001},
}


def add_raw_intake(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Describe `POST /to/<system>[/<interface>]`, which no Django URL knows (a post-processing hook)."""
    messages = result["paths"].get("/api/v1/messages/", {}).get("post")
    if messages is not None:
        result["paths"]["/in/{listener}/"] = {"post": _hook_operation(messages["responses"])}
        failures = {status: said for status, said in messages["responses"].items() if int(status) >= 400}
        for path, names in {"/to/{system}": ["system"], "/to/{system}/{interface}": ["system", "interface"]}.items():
            result["paths"][path] = {"post": _raw_operation(names, failures, messages.get("security", []))}
    return result


def _raw_operation(names: list[str], failures: dict[str, Any], security: list[Any]) -> dict[str, Any]:
    slug = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
    parameters = [{"name": name, "in": "path", "required": True, "schema": slug} for name in names]
    parameters += [{"name": name, "in": "header", "schema": schema} for name, schema in RAW_HEADERS.items()]
    answers = {
        "200": _answer(OUTCOME, "All its deliveries ended while it was waited for."),
        "202": _answer({"oneOf": [ACCEPTED, OUTCOME]}, "Stored."),
    }
    return {
        "operationId": "_".join(["to", *names]),
        "description": "Send a raw body of any content type; it is kept byte for byte.",
        "tags": ["messages"],
        "parameters": [*parameters, IDEMPOTENCY_KEY, WAIT],
        "requestBody": {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
        "security": [scheme for scheme in security if "session" not in scheme],
        "responses": answers | failures,
    }


def _hook_operation(responses: dict[str, Any]) -> dict[str, Any]:
    """Describe a hook: its sender has no key, but signs what it sends in the way its listener says."""
    slug = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
    failures = {status: responses[status] for status in HOOK_FAILURES if status in responses}
    failures.setdefault("404", {"description": "There is no such hook, or it is closed."})
    failures.setdefault("401", {"description": "The signature does not fit."})
    return {
        "operationId": "in_listener",
        "description": "Take a hook of any content type; it is kept byte for byte. Signed as its listener says.",
        "tags": ["listeners"],
        "parameters": [{"name": "listener", "in": "path", "required": True, "schema": slug}],
        "requestBody": {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
        "security": [],
        "responses": {
            "200": {"description": "The sender only asked whether we are there.", "content": {"text/plain": {}}},
            "202": _answer(ACCEPTED, "Stored."),
            **failures,
        },
    }


def _answer(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
