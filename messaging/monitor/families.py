"""Which incident speaks for which: one broken host, or a system that others depend on, is told of once. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

HOST, DEPENDENCY, PROCESS = "host", "dependency", "process"


@dataclass(frozen=True, slots=True)
class Member:
    """An incident, as far as its family goes."""

    id: str
    opened_at: datetime
    is_open: bool
    system_id: int | None = None
    owner_id: int | None = None
    host: str = ""
    causes: frozenset[str] = field(default_factory=frozenset)
    sends: bool = False  # of our own processes: those that send


@dataclass(frozen=True, slots=True)
class Bond:
    """Who speaks for an incident, and why."""

    root: str
    because: str


def bond(member: Member, roots: Sequence[Member], above: Mapping[int, Collection[int]]) -> Bond | None:
    """Return which of `roots` speaks for `member`, the first that opened; None: it speaks for itself.

    `roots` are the heads of families of which some member is open. `above` gives for each
    system all those that it depends on, by however many steps. A broken host speaks only within one
    team: another would not be told.
    """
    for root in sorted(roots, key=lambda one: (one.opened_at, one.id)):
        if root.id == member.id:
            continue
        if why := _why(member, root, above):
            return Bond(root.id, why)
    return None


def _why(member: Member, root: Member, above: Mapping[int, Collection[int]]) -> str:
    if root.sends and root.is_open and member.causes == {"late"}:
        return PROCESS
    is_later = (root.opened_at, root.id) < (member.opened_at, member.id)  # of two that opened at once one speaks
    if is_later and member.host and member.host == root.host and member.owner_id == root.owner_id:
        return HOST
    if member.system_id is None or member.system_id == root.system_id or not root.is_open:
        return ""
    return DEPENDENCY if root.system_id in above.get(member.system_id, ()) else ""


def ancestors(edges: Sequence[tuple[int, int]]) -> dict[int, set[int]]:
    """Return {system: all that it depends on} from (system, the one it depends on); circles are no trouble."""
    direct: dict[int, set[int]] = {}
    for lower, upper in edges:
        direct.setdefault(lower, set()).add(upper)
    found: dict[int, set[int]] = {}
    for system in direct:
        seen: set[int] = set()
        ahead = list(direct[system])
        while ahead:
            upper = ahead.pop()
            if upper not in seen:
                seen.add(upper)
                ahead.extend(direct.get(upper, ()))
        found[system] = seen - {system}
    return found
