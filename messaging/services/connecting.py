"""How a system gets its messages, protocol by protocol: what its peer gets, in words, and lines to start with."""

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import quote

from endpoints.models import Endpoint, System
from messaging.services.snippets import Snippet, base_url

# What a system without an endpoint may choose from, the most usual first.
USUAL = ("https", "pull", "gateway")


@dataclass(frozen=True, slots=True)
class Reception:
    """One way in which a system gets its messages: what happens, where the rest stands, and lines to copy."""

    title: str
    words: str
    guide: str
    snippets: tuple[Snippet, ...] = ()


def receiving(system: System, endpoints: Iterable[Endpoint] = ()) -> list[Reception]:
    """Return how this system receives, once for each way that its endpoints go; without any, the usual ways."""
    chosen: dict[tuple[str, str], Reception] = {}
    for endpoint in endpoints:
        found = _told(system, endpoint.protocol, endpoint.interface)
        chosen.setdefault((found.title, endpoint.interface if found.snippets else ""), found)
    return list(chosen.values()) or [_told(system, protocol, "main") for protocol in USUAL]


def _told(system: System, protocol: str, interface: str) -> Reception:
    row = WAYS.get(protocol)
    if row is None:
        return Reception(f"Receive over {protocol}", ADDED, "docs/protocols/custom.md")
    title, words, guide, lines = row
    return Reception(title, words, f"docs/protocols/{guide}.md", tuple(lines(system, interface)))


def _none(system: System, interface: str) -> list[Snippet]:
    return []


def _http(system: System, interface: str) -> list[Snippet]:
    slug, base = system.slug, base_url()
    secret = json.dumps({"name": f"{slug}-signing", "kind": "hmac", "data": {"secret": "SECRET"}})
    endpoint = {"system": slug, "interface": interface, "protocol": "https", "host": "hooks.example.com"}
    signed = json.dumps({**endpoint, "path": "/inbox", "config": {"signing_credential": f"{slug}-signing"}})
    return [
        Snippet("Python (pip install aiohttp)", "python", _PYTHON_HTTP),
        Snippet("Node", "javascript", _NODE_HTTP),
        Snippet(
            "Register the address",
            "shell",
            f"{_EDITOR}\n\n# The secret that signs; the receiver knows it as SIGNING_SECRET.\n"
            "export SIGNING_SECRET=$(openssl rand -hex 32)\n"
            + _post(f"{base}/api/v1/credentials/", secret).replace("SECRET", _FROM_SHELL)
            + "\n\n"
            + _post(f"{base}/api/v1/endpoints/", signed),
        ),
    ]


def _pull(system: System, interface: str) -> list[Snippet]:
    slug, base = system.slug, base_url()
    inbox = f"{base}/api/v1/systems/{slug}/inbox/?interface={quote(interface)}&max=10&wait=30"
    return [
        Snippet("curl", "shell", _CURL_PULL.format(slug=slug, inbox=inbox, base=base)),
        Snippet("Python", "python", _PYTHON_PULL.format(inbox=inbox, base=base)),
        _registering(system, interface, "pull"),
    ]


def _gateway(system: System, interface: str) -> list[Snippet]:
    url = f"{base_url().replace('http', 'ws', 1)}/ws/v1/gateway/"
    return [
        Snippet("Key", "shell", _BOUND.format(slug=system.slug, name="gateway", role="operator")),
        Snippet("Python (pip install websockets)", "python", _PYTHON_GATEWAY.format(url=url)),
        Snippet("Node (npm install ws)", "javascript", _NODE_GATEWAY.format(url=url)),
        _registering(system, interface, "gateway"),
    ]


def _registering(system: System, interface: str, protocol: str) -> Snippet:
    endpoint = json.dumps({"system": system.slug, "interface": interface, "protocol": protocol})
    return Snippet(
        f"Register {protocol}", "shell", f"{_EDITOR}\n\n" + _post(f"{base_url()}/api/v1/endpoints/", endpoint)
    )


def _post(url: str, body: str) -> str:
    return (
        f'curl -X POST {url} \\\n  -H "Authorization: Bearer $EDITOR_KEY" \\\n'
        f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
    )


HTTP = (
    "Receive by HTTP, and verify that it is ours",
    "Each delivery is a POST of the payload, signed as Standard Webhooks say where the endpoint names a "
    "signing credential. A retry carries the same webhook-id: keep the ids you have handled. Answer 2xx to "
    "accept. 5xx, 401, 403, 408 and 425 are tried again, 429 with Retry-After slows us down. Any other 4xx "
    "and every 3xx is refused for good: a dead letter, not sent again by itself. 410 pauses the endpoint, "
    "too.",
    "http",
    _http,
)
TCP = (
    "Receive over TCP",
    "Each message is one frame over a kept connection that we open: by default the payload's bytes and a line "
    "feed, and written is all that counts. Let the peer acknowledge (reply: ack) wherever it can: only then "
    "is delivered more than sent off. Framing, replies and TLS are set in the config of the endpoint.",
    "tcp",
    _none,
)
WEBSOCKET = (
    "Receive over WebSocket",
    "We connect to the peer's server and send each message as one WebSocket message: text where the payload "
    "is JSON, XML or text, else binary. By default it is delivered once the peer's end has read it; with "
    "reply: ack the peer answers each, and may refuse it.",
    "ws",
    _none,
)
ASKED = "It is asked by suites and by probes, and gets no messages: without another endpoint nothing can be sent to it."
ADDED = "The package that brings this protocol says what the peer gets."
# Per protocol: the title, what the peer gets, the guide below docs/protocols, and lines to copy.
WAYS: dict[str, tuple[str, str, str, Callable[[System, str], list[Snippet]]]] = {
    "http": HTTP,
    "https": HTTP,
    "pull": (
        "Fetch from the inbox (pull)",
        "For a system that cannot be called: it fetches what waits, with its own key, and says of each delivery what "
        "became of it. What is not acknowledged until lease_until is handed out again, under the same delivery_id.",
        "pull",
        _pull,
    ),
    "gateway": (
        "Receive over the gateway",
        "The system's programs connect to us over WebSocket, with its own key, and get what is due to it; what is not "
        "acknowledged in time is sent again, under the same delivery_id. Over the same line they may send, too.",
        "gateway",
        _gateway,
    ),
    "tcp": TCP,
    "tls": TCP,
    "ws": WEBSOCKET,
    "wss": WEBSOCKET,
    "udp": (
        "Receive over UDP",
        "Each message is one datagram of the payload's bytes, 65,507 at most. Delivered means that it left; "
        "with reply: message the peer answers each, and only then it is known to have arrived.",
        "udp",
        _none,
    ),
    "postgresql": ("Asked by suites (postgresql)", ASKED, "postgresql", _none),
    "redis": ("Asked by suites (redis)", ASKED, "redis", _none),
    "memory": ("Receive in memory", "For tests of this installation: nothing leaves it.", "matrix", _none),
}

_EDITOR = (
    "# Registering takes the key of an editor; the system's own may not.\n"
    "export EDITOR_KEY=$(controlplane create_api_key registering --role editor)"
)
_FROM_SHELL = "'$SIGNING_SECRET'"  # out of the quotes, so that the shell fills it in
_BOUND = """# The system's own key: it speaks as {slug} alone.
export CP_KEY=$(controlplane create_api_key {slug}-{name} --role {role} --system {slug})"""

_CURL_PULL = (
    _BOUND.replace("{name}", "fetch").replace("{role}", "viewer")
    + """

# Fetch what waits; without anything, this waits up to 30 s for the first.
curl '{inbox}' -H "Authorization: Bearer $CP_KEY"

# For each, with the delivery_id and the attempt that came: taken ...
curl -X POST {base}/api/v1/deliveries/DELIVERY_ID/ack/ -H "Authorization: Bearer $CP_KEY" \\
  -H 'Content-Type: application/json' -d '{{"attempt": 1}}'

# ... or not taken, so that it is tried again later.
curl -X POST {base}/api/v1/deliveries/DELIVERY_ID/nack/ -H "Authorization: Bearer $CP_KEY" \\
  -H 'Content-Type: application/json' -d '{{"attempt": 1, "reason": "disk full"}}'"""
)

_PYTHON_PULL = """import json, os, urllib.request

def call(url, body=None):
    request = urllib.request.Request(
        url,
        None if body is None else json.dumps(body).encode(),
        {{"Authorization": f"Bearer {{os.environ['CP_KEY']}}", "Content-Type": "application/json"}},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)

while True:
    for delivery in call("{inbox}")["results"]:
        print(delivery["message"]["payload"], flush=True)
        call(f"{base}/api/v1/deliveries/{{delivery['delivery_id']}}/ack/", {{"attempt": delivery["attempt"]}})"""

_PYTHON_GATEWAY = """import asyncio, json, os
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

async def main():
    headers = {{"Authorization": f"Bearer {{os.environ['CP_KEY']}}"}}
    async for socket in connect("{url}", additional_headers=headers):  # again and again
        try:
            async for text in socket:
                frame = json.loads(text)
                if frame["type"] == "delivery":
                    print(frame["message"]["payload"], flush=True)
                    await socket.send(json.dumps({{"type": "ack", "delivery_id": frame["delivery_id"]}}))
        except ConnectionClosed as closed:
            if closed.rcvd and closed.rcvd.code in (4401, 4403):
                raise  # the key is not good, or not for this

asyncio.run(main())"""

_NODE_GATEWAY = """const {{ WebSocket }} = require("ws");

function open() {{
  const headers = {{ Authorization: `Bearer ${{process.env.CP_KEY}}` }};
  const socket = new WebSocket("{url}", {{ headers }});
  socket.on("message", (text) => {{
    const frame = JSON.parse(text);
    if (frame.type !== "delivery") return;
    console.log(frame.message.payload);
    socket.send(JSON.stringify({{ type: "ack", delivery_id: frame.delivery_id }}));
  }});
  socket.on("error", console.error);
  socket.on("close", (code) => setTimeout(open, code === 4401 || code === 4403 ? 60000 : 1000));
}}
open();"""

_PYTHON_HTTP = """import base64, hashlib, hmac, os, time
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
        return web.Response(status=401)  # tried again: a secret may just have been renewed
    if request.headers["webhook-id"] not in seen:
        seen.add(request.headers["webhook-id"])
        print(body)
    return web.Response(status=204)  # taken; most of 4xx would be refused for good

app = web.Application()
app.router.add_post("/inbox", inbox)
web.run_app(app, port=9000)"""

_NODE_HTTP = """import { createHmac, timingSafeEqual } from "node:crypto";
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
  response.statusCode = isOurs(request.headers, body) ? 204 : 401;
  response.end();
}).listen(9000);"""
