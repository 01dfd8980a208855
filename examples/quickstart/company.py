"""Who the example company is made of, and what its web shop has to say."""

import random
from dataclasses import dataclass, field
from typing import Any

TAG = "example"


@dataclass(frozen=True)
class Door:
    """One interface of a system: answers after `delay_s`, and refuses every `fails_every`-th message."""

    interface: str = "main"
    protocol: str = "http"
    delay_s: float = 0.0
    fails_every: int = 0


@dataclass(frozen=True)
class Party:
    """A system of the company; one without doors only sends."""

    slug: str
    name: str
    description: str
    doors: tuple[Door, ...] = (Door(),)
    fields: dict[str, Any] = field(default_factory=dict)


ORDER_KEY = {"search_keys": [{"name": "order", "from": "payload.$.order"}]}

COMPANY = (
    Party("webshop", "Web shop", "Takes orders and tells everybody.", (), ORDER_KEY),
    Party("billing", "Billing", "Writes invoices; answers at once."),
    Party("erp", "ERP", "Keeps stock and orders; two doors.", (Door(), Door("orders"))),
    Party("crm", "CRM", "Knows the customers; takes 300 ms for everything.", (Door(delay_s=0.3),)),
    Party("chat", "Team chat", "Is told when something breaks, and when it works again."),
    Party("warehouse", "Warehouse", "Cannot be called: it fetches what it is sent.", (Door(protocol="pull"),)),
    Party("app", "Mobile app", "Connects to us by itself, and is told what is for it.", (Door(protocol="gateway"),)),
    Party("screen", "Kitchen screen", "Shows orders; answers each frame.", (Door(protocol="ws"),)),
    Party("printer", "Label printer", "A device that reads lines over TCP.", (Door(protocol="tcp"),)),
    Party("display", "Price display", "Takes datagrams; nobody knows whether it did.", (Door(protocol="udp"),)),
    Party("shipping", "Shipping", "Busy now and then: every fifth request is refused.", (Door(fails_every=5),)),
)

TOLD = "chat"  # of incidents


@dataclass(frozen=True)
class Story:
    """One kind of thing that happens in the shop, and who is told."""

    event_type: str
    targets: tuple[str, ...]
    message_type: str = "event"
    priority: str = "normal"
    keyed: bool = False  # told in order, per order number


STORIES = (
    Story("order.placed", ("erp/orders", "billing"), keyed=True),
    Story("order.placed", ("erp/orders", "billing", "crm"), keyed=True),
    Story("order.paid", ("erp/orders", "shipping"), keyed=True),
    Story("stock.reserve", ("erp",), message_type="command", priority="high"),
    Story("customer.registered", ("crm",)),
    Story("customer.notified", ("crm",), message_type="notification", priority="low"),
    Story("goods.pick", ("warehouse", "screen"), message_type="command"),
    Story("parcel.label", ("shipping", "printer"), message_type="command"),
    Story("price.changed", ("display",)),
    Story("order.ready", ("app",), message_type="notification"),
    Story("invoice.cancelled", ("billing",), priority="critical"),
)


def next_message(number: int) -> dict[str, Any]:
    """Return the next message of the shop; orders are numbered from 4711."""
    story = random.choice(STORIES)
    order = str(4711 + number // 3)
    message: dict[str, Any] = {
        "source_system": "webshop",
        "target_system": list(story.targets),
        "message_type": story.message_type,
        "event_type": story.event_type,
        "priority": story.priority,
        "correlation_id": f"order-{order}",
        "payload": {
            "order": order,
            "customer": f"c-{random.randint(100, 999)}",
            "total": f"{random.randint(500, 99999) / 100:.2f}",
            "items": [{"sku": f"A-{random.randint(10, 99)}", "quantity": random.randint(1, 5)}],
        },
    }
    if story.keyed:
        message["ordering_key"] = order
    return message
