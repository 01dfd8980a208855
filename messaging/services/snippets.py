"""Ready lines for people who connect a system: how to send, in three languages."""

import json
import shlex
from dataclasses import dataclass

from django.conf import settings

from endpoints.models import System
from messaging.models import Message, Priority

MOST_LINE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Snippet:
    """One block of code: what it does, in which language."""

    title: str
    language: str
    code: str


def resend_line(message: Message, payload: bytes) -> str:
    """Return a curl line that sends this message's content once more, as a new message; "" if it does not fit."""
    if len(payload) > MOST_LINE_BYTES or b"\0" in payload:
        return ""
    try:
        body = payload.decode()
    except UnicodeDecodeError:
        return ""
    headers = {
        "Authorization": "Bearer $CP_KEY",
        "Content-Type": message.content_type,
        "X-Source-System": message.source.slug,
        "X-Message-Type": message.message_type,
        "X-Event-Type": message.event_type,
        "X-Priority": Priority(message.priority).name.lower(),
        "X-Correlation-Id": message.correlation_id,
        "X-Ordering-Key": message.ordering_key,
    }
    target = next((name for name in message.targets or [] if name != "*"), "TARGET")
    # Double quotes around the key let the shell fill it in; everything a sender chose is quoted for good.
    lines = [f"curl -X POST {shlex.quote(f'{base_url()}/to/{target}')}"]
    for name, value in headers.items():
        line = f"{name}: {value}"
        if value:
            lines.append(f'  -H "{line}"' if name == "Authorization" else f"  -H {shlex.quote(line)}")
    return " \\\n".join([*lines, f"  --data-binary {shlex.quote(body)}"])


def sending(system: System) -> list[Snippet]:
    """Return how to send a message from this system."""
    message = {
        "source_system": system.slug,
        "target_system": "TARGET",
        "event_type": "order.created",
        "payload": {"order": 4711},
    }
    body = json.dumps(message)
    url = f"{base_url()}/api/v1/messages/"
    return [
        Snippet(
            "curl",
            "shell",
            f"export CP_KEY=$(controlplane create_api_key {system.slug} --role operator"
            f" --system {system.slug})\n\n"
            f'curl -X POST {url} \\\n  -H "Authorization: Bearer $CP_KEY" \\\n'
            f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}",
        ),
        Snippet("Python", "python", _PYTHON_SEND.format(url=url, slug=system.slug)),
        Snippet("Node", "javascript", _NODE_SEND.format(url=url, slug=system.slug)),
    ]


def sending_raw(system: System) -> list[Snippet]:
    """Return how an app that can only change one URL sends to this system."""
    url = f"{base_url()}/to/{system.slug}"
    return [
        Snippet(
            "Any body, byte for byte",
            "shell",
            "# The sender's own key, which speaks as SOURCE: put the sender's slug for it.\n"
            "export SENDER_KEY=$(controlplane create_api_key SOURCE-sends --role operator --system SOURCE)\n\n"
            f'curl -X POST {url} \\\n  -H "Authorization: Bearer $SENDER_KEY" \\\n'
            "  -H 'X-Source-System: SOURCE' \\\n  -H 'X-Event-Type: order.created' \\\n"
            "  -H 'Content-Type: application/xml' \\\n  --data-binary @order.xml",
        )
    ]


def base_url() -> str:
    """Return where this installation is reached, without a slash at its end."""
    return str(settings.PUBLIC_URL).rstrip("/")


_PYTHON_SEND = """import json, os, urllib.request

message = {{
    "source_system": "{slug}",
    "target_system": "TARGET",
    "event_type": "order.created",
    "idempotency_key": "order-4711",
    "payload": {{"order": 4711}},
}}
request = urllib.request.Request(
    "{url}",
    json.dumps(message).encode(),
    {{"Authorization": f"Bearer {{os.environ['CP_KEY']}}", "Content-Type": "application/json"}},
)
with urllib.request.urlopen(request, timeout=10) as answer:
    print(json.load(answer)["message_id"])"""

_NODE_SEND = """const answer = await fetch("{url}", {{
  method: "POST",
  headers: {{
    Authorization: `Bearer ${{process.env.CP_KEY}}`,
    "Content-Type": "application/json",
  }},
  body: JSON.stringify({{
    source_system: "{slug}",
    target_system: "TARGET",
    event_type: "order.created",
    idempotency_key: "order-4711",
    payload: {{ order: 4711 }},
  }}),
}});
if (!answer.ok) throw new Error(await answer.text());
console.log((await answer.json()).message_id);"""
