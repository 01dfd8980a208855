"""The live panel of suites on the dashboard: rendered here once, for the first page and for every push after it."""

from datetime import datetime

from django.template.loader import render_to_string

from endpoints.access.principal import Principal
from testing.services.overview import overview


def dashboard(principal: Principal, now: datetime) -> dict[str, str]:
    """Return the HTML of the panel by name, as `principal` may see it."""
    return {"suites": render_to_string("controlplane/panels/suites.html", {"seen": overview(principal, now)})}
