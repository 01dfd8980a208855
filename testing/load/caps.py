"""What bounds a load of messages: they are delivered as any message is, under the caps of their receivers."""

from collections.abc import Iterable

from endpoints.models import Endpoint, EndpointState
from testing.document.references import has_references
from testing.document.suite import Step

MOST_TOLD = 5


def receivers(steps: tuple[Step, ...]) -> set[str]:
    """Return the aliases that `message` steps send to, as far as they are written out."""
    found: set[str] = set()
    for step in steps:
        found |= receivers(step.inner)
        if step.kind == "message":
            to = step.params.get("to") or ()
            found |= {alias for alias in ([to] if isinstance(to, str) else to) if not has_references(alias)}
    return found


def told(targets: Iterable[str]) -> str:
    """Return the caps of these interfaces in words, "" where there are none."""
    found = []
    for target in sorted(set(targets))[:MOST_TOLD]:
        slug, _, interface = target.partition("/")
        rows = Endpoint.objects.filter(system__slug=slug, interface=interface or "main", state=EndpointState.ENABLED)
        rows_here = [row for row in rows if "deliver" in row.use]
        if not rows_here:
            continue
        rates = [row.rate_per_s for row in rows_here]
        rate = f", {sum(filter(None, rates)):g}/s" if all(rates) else ""
        found.append(f"{target} {sum(row.max_in_flight for row in rows_here)} at once{rate}")
    return f"its messages kept to the caps of deliveries: {'; '.join(found)}" if found else ""
