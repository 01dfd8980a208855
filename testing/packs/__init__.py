"""Which packs there are: one row each, and beside this file a folder of that name with the suite as `suite.yaml`.

A pack is a suite like any other. What it needs at the other side stands in its row:
behind each alias of the suite, over which protocols, and what is there to answer how.
`docs/packs/<name>.md` says it in full; `tests/packs/` shows that every case of a pack
fails when its target is broken in the way that the case is there to see. Other packages
add rows by entry point (`added`).
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PackTarget:
    """What has to stand behind an alias: one of `protocols`, and a peer that `does` this."""

    protocols: tuple[str, ...]
    does: str


@dataclass(frozen=True, slots=True)
class Pack:
    """One row. `example` is how a server to try it against is started, if one comes with the product."""

    about: str
    targets: Mapping[str, PackTarget]
    example: str = ""


PACKS: dict[str, Pack] = {
    "agent-events": Pack(
        about="What agents do is told completely, in order, to the right user, across interruptions, within credit.",
        targets={"events": PackTarget(("ws", "wss"), "speaks the frames of docs/packs/agent-events.md")},
        example="python -m examples.agent_events",
    ),
    "communication": Pack(
        about="Connect, send, broadcast and health, over every transport that a system offers.",
        targets={
            "http": PackTarget(
                ("http", "https"), "GET /health answers 200 with JSON; POST /echo answers what was sent; others 404"
            ),
            "ws": PackTarget(("ws", "wss"), "echoes; answers {type: health}; sends {type: broadcast} to all connected"),
            "tcp": PackTarget(("tcp", "tls"), "the same, a message a line"),
            "udp": PackTarget(("udp",), "echoes each datagram; answers {type: health}"),
        },
        example="python -m examples.communication",
    ),
    "metrics": Pack(
        about="Prometheus scrapes, answers and alerts; Grafana is well, and shows what it should.",
        targets={
            "prometheus": PackTarget(("http", "https"), "speaks Prometheus' HTTP API"),
            "grafana": PackTarget(("http", "https"), "speaks Grafana's, with a token that may read"),
        },
    ),
    "postgresql": Pack(
        about="A PostgreSQL database can be reached, asked, written to and trusted.",
        targets={"db": PackTarget(("postgresql",), "has the tables that the variables name")},
        example="psql -f examples/postgresql/shop.sql",
    ),
    "websocket": Pack(
        about="A hub of users: who may come in, who hears what, what outlives a cut, and how quick it is.",
        targets={"hub": PackTarget(("ws", "wss"), "speaks the frames of docs/packs/websocket.md")},
        example="python -m examples.websocket",
    ),
}
