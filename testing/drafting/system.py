"""A suite from a system: each of its doors is there, and whoever stands behind it is alive."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from testing.drafting.cleaning import Cleaner
from testing.drafting.draft import Draft, finish, slug_of
from testing.drafting.writing import Line, Row

SOONEST_DAYS = 14
SLOWEST = "10s"
CHECK = "controlplane.check"


@dataclass(frozen=True, slots=True)
class Door:
    """One interface of a system, as the first endpoint that serves it says.

    `can_tell`: a probe of it says whether somebody is there, which the silence of a datagram does not. `is_fetched`:
    its client holds a line to us, which only what is sent to it shows.
    """

    interface: str
    protocol: str
    is_tls: bool
    verifies: bool
    can_tell: bool
    is_fetched: bool


def draft_system(slug: str, system: str, title: str, doors: Sequence[Door], cleaner: Cleaner) -> Draft | None:
    """Return a suite that looks at every door, None when there is none."""
    systems: dict[str, str] = {}
    cases: list[dict[str, Any]] = []
    for door in doors:
        alias = door.interface if door.interface != "main" else "system"
        systems[alias] = system if door.interface == "main" else f"{system}/{door.interface}"
        cases += [
            {"case": slug_of(name, "" if alias == "system" else alias), "steps": [step]}
            for name, step in _cases(door, alias)
        ]
    if not cases:
        return None
    remarks = [f"Made from what is registered of {system}: each door is there, whatever it answers.", *_remarks(doors)]
    return finish(slug, f"{title} can be reached", {"systems": systems, "cases": cases}, remarks, cleaner)


def _remarks(doors: Sequence[Door]) -> list[str]:
    """Return what the cases of doors that do not answer by themselves show, and what they do not."""
    found = [
        f"{door.interface}: nobody need answer a datagram, so this shows only that its host does not refuse it. "
        "Write `udp` with `send` and `expect`, if something comes back."
        for door in doors
        if not door.can_tell
    ]
    found += [
        f"{door.interface}: its client gets an event '{CHECK}' each time, which it has to acknowledge."
        for door in doors
        if door.is_fetched
    ]
    return found


def slug_for(system: str) -> str:
    return slug_of(system, "reachable")


def _cases(door: Door, alias: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the cases of one door; a certificate that lasts is asked by itself."""
    found: list[tuple[str, dict[str, Any]]] = []
    if door.is_tls and door.verifies:
        found.append(("certificate", {"tls": alias, "assert": [Line({"tls.days_left": Line(gt=SOONEST_DAYS)})]}))
    if door.protocol in ("http", "https"):
        # Whatever it says of a GET, short of a fault of its own, says that it is there.
        found.append(("answers", {"http": {"system": alias, "method": "GET"}, "assert": [Line(status=Line(lt=500))]}))
    elif door.is_fetched:
        sent: dict[str, Any] = {
            "from": alias,
            "to": Row([alias]),
            "event_type": CHECK,
            "payload": {"run": "${{ run.id }}"},
        }
        sent |= {"max_retries": 0, "ttl": "15s", "within": "20s"}  # what nobody fetches leaves nothing behind
        found.append(("acknowledges", {"message": sent, "assert": [Line(status=Line(eq="delivered"))]}))
    elif not door.can_tell:
        found.append(("not-refused", {"probe": alias, "assert": [Line(latency=Line(lt=SLOWEST))]}))
    else:
        # Nobody there is no answer, and passes no assertion but one about the error.
        found.append(("answers", {"probe": alias, "assert": [Line(latency=Line(lt=SLOWEST))]}))
    return found
