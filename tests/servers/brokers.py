"""The brokers that wake-ups go through: those that `make services` started, or the environment names."""

import os

from tests.servers.absence import missing
from tests.servers.ports import free_port
from tests.stack import SERVICES

NAMES = {"redis": "TEST_REDIS_URL", "rabbitmq": "TEST_RABBITMQ_URL"}


def broker_settings(broker: str) -> dict[str, str]:
    """Return the settings of an installation on a broker ("embedded": none; "gone": one that nobody serves).

    A broker that is missing skips the test by name; with CI set that is a failure.
    """
    if broker == "embedded":
        return {}
    if broker == "gone":
        return {"CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
    name = NAMES[broker]
    lines = SERVICES.read_text().splitlines() if SERVICES.exists() else []
    known = dict(line.split("=", 1) for line in lines if "=" in line)
    url = os.environ.get(name) or known.get(name)
    return {"CELERY_BROKER_URL": url or missing(f"{broker}: no server; run `make services` or set {name}")}
