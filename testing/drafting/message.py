"""A suite from a message, or from what became of it at one system: send the like of it, and expect that it arrives."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from endpoints.edge import strict_json
from endpoints.errors import Malformed, Refused
from endpoints.transports.bodies import is_json
from testing.document.kinds import NAME
from testing.drafting.cleaning import Cleaner
from testing.drafting.draft import Draft, finish, slug_of
from testing.drafting.writing import Line, Row

MOST_BYTES = 256 * 1024
SENDER = "sender"


@dataclass(frozen=True, slots=True)
class Receiver:
    """What became of the message at one interface; `status_code` is that of the last answer."""

    system: str
    interface: str
    state: str
    status_code: int | None = None
    error_class: str = ""
    error: str = ""

    @property
    def target(self) -> str:
        return self.system if self.interface == "main" else f"{self.system}/{self.interface}"


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it is to be sent again; `answer` is the payload of its response, where it had one."""

    message_id: str
    source: str
    message_type: str
    event_type: str
    priority: str
    recipient: str
    content_type: str
    headers: Mapping[str, str]
    payload: bytes
    receivers: Sequence[Receiver] = field(default=())
    is_routed: bool = False
    is_ordered: bool = False
    answer: tuple[bytes, str] | None = None


def draft_message(sent: Sent, slug: str, cleaner: Cleaner) -> Draft:
    """Return a suite that sends the like of a message; raises Refused for a payload that is too large."""
    if len(sent.payload) > MOST_BYTES:
        raise Refused("the payload is larger than 256 KiB, too large to be written into a suite", code="no_draft")
    aliases = {alias: receiver.target for alias, receiver in _aliases(sent.receivers)}
    params: dict[str, Any] = {"from": SENDER}
    if aliases and not sent.is_routed:
        params["to"] = Row(aliases)
    params["type"] = sent.message_type
    for name in ("event_type", "recipient"):
        if value := getattr(sent, name):
            params[name] = cleaner.text(value, name)
    if sent.priority != "normal":
        params["priority"] = sent.priority
    if headers := cleaner.fields(_headers(sent.headers, cleaner), "headers"):
        params["headers"] = headers
    params |= _payload(sent, cleaner)
    params["max_retries"] = 0
    title = f"{sent.event_type or sent.message_type} from {sent.source}"
    if aliases:
        title += f" reaches {', '.join(aliases.values())}"
    step = {"id": "send", "message": params, "assert": _assertions(sent)}
    body = {"systems": {SENDER: sent.source, **aliases}, "cases": [{"case": "delivered", "steps": [step]}]}
    return finish(slug, title, body, _remarks(sent, cleaner), cleaner)


def slug_for(sent: Sent) -> str:
    """Return what the suite would best be called."""
    to = sent.receivers[0].system if len(sent.receivers) == 1 else ""
    return slug_of(sent.source, "to" if to else "", to, sent.event_type or sent.message_type)


def _aliases(receivers: Sequence[Receiver]) -> list[tuple[str, Receiver]]:
    if len(receivers) == 1:
        return [("receiver", receivers[0])]
    return [(f"receiver{number}", receiver) for number, receiver in enumerate(receivers, start=1)]


def _headers(headers: Mapping[str, str], cleaner: Cleaner) -> dict[str, str]:
    kept = {name: str(value) for name, value in headers.items() if NAME.fullmatch(name)}
    cleaner.remarks += [f"Left out: header {name}, which cannot be written here." for name in headers.keys() - kept]
    return kept


def _payload(sent: Sent, cleaner: Cleaner) -> dict[str, Any]:
    """Return the payload as JSON where it is, as bytes else."""
    if is_json(sent.content_type):
        try:
            value = strict_json.parse(sent.payload)
        except Malformed:
            value = None  # it only says it is JSON
        if value is not None:
            kind = {} if sent.content_type == "application/json" else {"content_type": sent.content_type}
            return {**kind, "payload": cleaner.value(value, "payload")}
    if cleaner.may_hold_secrets(sent.payload.decode("latin-1")):
        cleaner.remarks.append("Left out: the payload, which may hold a secret; write one that holds none.")
        return {"content_type": sent.content_type, "payload_base64": ""}
    return {"content_type": sent.content_type, "payload_base64": base64.b64encode(sent.payload).decode()}


def _assertions(sent: Sent) -> list[Line]:
    """Return what must hold once all is well: that it arrives everywhere, and what the receivers say to it."""
    found = [Line(status=Line(eq="delivered"))]
    if sent.receivers:
        found.append(Line(rows=Line(len=len(sent.receivers))))
    for index, receiver in enumerate(sent.receivers):
        code = receiver.status_code
        if code is not None:
            is_good = receiver.state == "delivered" and 200 <= code < 300
            found.append(Line({f"rows.{index}.status_code": Line(eq=code) if is_good else Line(between=[200, 299])}))
    if sent.answer is not None:
        found.append(_of_answer(*sent.answer))
    return found


def _of_answer(body: bytes, content_type: str) -> Line:
    """Return what the answer to a request is to be like: JSON of its kind, or not empty."""
    try:
        value = strict_json.parse(body) if is_json(content_type) else None
    except Malformed:
        value = None
    kind = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else ""
    return Line({"body.$": Line(type=kind)}) if kind else Line(size=Line(gte="1B" if body else "0B"))


def _remarks(sent: Sent, cleaner: Cleaner) -> list[str]:
    """Return where it is from, why it may fail as yet, and what was left out on purpose."""
    found = [f"Made from message {sent.message_id} of {sent.source}."]
    for receiver in sent.receivers:
        if receiver.state != "delivered":
            said = f": {receiver.error_class}, {cleaner.said(receiver.error)}" if receiver.error else ""
            found.append(f"At {receiver.target} it is {receiver.state}{said}. The suite passes once the like arrives.")
    if not sent.receivers:
        found.append("No target matched it. The suite passes once a route takes it, and it is delivered.")
    found.append("max_retries: 0 has the outcome at once, and leaves nothing behind that is tried for hours.")
    if sent.is_ordered:
        found.append("Left out: the ordering key, so that a test holds up no message of others.")
    return found
