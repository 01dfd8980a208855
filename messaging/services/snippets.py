"""Ready lines for people who connect a system: how to send, to receive and to verify, in three languages."""

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
    lines = [f"curl -X POST {shlex.quote(f'{_base()}/to/{target}')}"]
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
    url = f"{_base()}/api/v1/messages/"
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
    url = f"{_base()}/to/{system.slug}"
    return [
        Snippet(
            "Any body, byte for byte",
            "shell",
            f'curl -X POST {url} \\\n  -H "Authorization: Bearer $CP_KEY" \\\n'
            "  -H 'X-Source-System: SOURCE' \\\n  -H 'X-Event-Type: order.created' \\\n"
            "  -H 'Content-Type: application/xml' \\\n  --data-binary @order.xml",
        )
    ]


def receiving(system: System) -> list[Snippet]:
    """Return how this system receives messages and verifies that they are ours (Standard Webhooks)."""
    return [
        Snippet("Python (aiohttp)", "python", _PYTHON_RECEIVE),
        Snippet("Node", "javascript", _NODE_RECEIVE),
        Snippet(
            "Register the address",
            "shell",
            f'curl -X POST {_base()}/api/v1/endpoints/ \\\n  -H "Authorization: Bearer $CP_KEY" \\\n'
            "  -H 'Content-Type: application/json' \\\n  -d "
            + shlex.quote(
                json.dumps(
                    {
                        "system": system.slug,
                        "protocol": "https",
                        "host": "hooks.example.com",
                        "path": "/inbox",
                        "config": {"signing_credential": f"{system.slug}-signing"},
                    }
                )
            ),
        ),
    ]


def _base() -> str:
    return str(settings.PUBLIC_URL).rstrip("/")


_PYTHON_SEND = """import os
import requests

answer = requests.post(
    "{url}",
    headers={{"Authorization": f"Bearer {{os.environ['CP_KEY']}}"}},
    json={{
        "source_system": "{slug}",
        "target_system": "TARGET",
        "event_type": "order.created",
        "idempotency_key": "order-4711",
        "payload": {{"order": 4711}},
    }},
    timeout=10,
)
answer.raise_for_status()
print(answer.json()["message_id"])"""

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

_PYTHON_RECEIVE = """import base64, hashlib, hmac, os, time
from aiohttp import web

secret = os.environ["SIGNING_SECRET"]
KEY = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
seen = set()  # keep it in your database: the same webhook-id may come twice

def is_ours(headers, body):
    stamp = headers["webhook-timestamp"]
    if abs(time.time() - int(stamp)) > 300:
        return False
    signed = b".".join([headers["webhook-id"].encode(), stamp.encode(), body])
    mac = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    return any(
        hmac.compare_digest(f"v1,{mac}", given) for given in headers["webhook-signature"].split()
    )

async def inbox(request):
    body = await request.read()
    if not is_ours(request.headers, body):
        return web.Response(status=401)
    if request.headers["webhook-id"] not in seen:
        seen.add(request.headers["webhook-id"])
        print(body)
    return web.Response(status=204)  # anything but 2xx is sent again

app = web.Application()
app.router.add_post("/inbox", inbox)
web.run_app(app, port=9000)"""

_NODE_RECEIVE = """import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = process.env.SIGNING_SECRET;
const key = secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : secret;

function isOurs(headers, body) {
  const stamp = headers["webhook-timestamp"];
  if (Math.abs(Date.now() / 1000 - Number(stamp)) > 300) return false;
  const mac = createHmac("sha256", key)
    .update(`${headers["webhook-id"]}.${stamp}.`).update(body).digest("base64");
  const ours = Buffer.from(`v1,${mac}`);
  return headers["webhook-signature"].split(" ").some((given) => {
    const theirs = Buffer.from(given);
    return theirs.length === ours.length && timingSafeEqual(theirs, ours);
  });
}

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  response.statusCode = isOurs(request.headers, body) ? 204 : 401; // anything but 2xx is sent again
  response.end();
}).listen(9000);"""
