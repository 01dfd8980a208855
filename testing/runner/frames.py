"""Where a step stands: in the case that runs, or in one that this called, with its own variables and aliases."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from endpoints.access.principal import Principal
from testing.document.calls import check_calls
from testing.document.reader import read_suite
from testing.document.suite import Suite
from testing.models import Suite as StoredSuite
from testing.runner.scope import Values, fill_vars
from testing.steps.base import CannotRun


@dataclass(frozen=True, slots=True)
class Frame:
    """What a called case reads: its suite's variables, what it captured, and what its aliases stand for."""

    suite: Suite
    values: Values
    aliases: Mapping[str, str]


FRAME: ContextVar[Frame | None] = ContextVar("FRAME", default=None)  # each of several steps at once has its own


@dataclass(frozen=True, slots=True)
class Library:
    """A document, and the stored suites that are called from it; read once, before the run begins."""

    own: Suite
    called: Mapping[str, Suite] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)

    def suite(self, slug: str) -> Suite:
        frame = FRAME.get()
        here = frame.suite if frame is not None else self.own
        return here if slug in ("", here.slug) else self.own if slug == self.own.slug else self.called[slug]

    @property
    def texts(self) -> str:
        """Return all documents, for what is looked for in each of them."""
        return "\n".join([self.own.text, *(suite.text for suite in self.called.values())])

    @property
    def systems(self) -> dict[str, str]:
        """Return what the aliases of the called suites stand for, by the names that `target_name` gives them."""
        return {
            f"{slug}:{alias}": target for slug, suite in self.called.items() for alias, target in suite.systems.items()
        }


def find_called(own: Suite, principal: Principal) -> Library:
    """Return the library of a document; raises BadDocument for a call that cannot be made."""
    called: dict[str, Suite] = {}
    versions: dict[str, int] = {}

    def find(slug: str) -> Suite | None:
        if slug not in called:
            row = StoredSuite.objects.visible_to(principal).filter(slug=slug).first()
            if row is None:
                return None
            called[slug], versions[slug] = read_suite(row.text), row.version
        return called[slug]

    check_calls(own, find)
    return Library(own, called, versions)


def target_name(alias: str) -> str:
    """Return under which name the run knows what `alias` stands for, where the step stands."""
    frame = FRAME.get()
    return alias if frame is None else frame.aliases.get(alias, f"{frame.suite.slug}:{alias}")


def enter(library: Library, slug: str, given: Mapping[str, Any], systems: Mapping[str, str], around: Values) -> Frame:
    """Return the frame of a call; raises CannotRun for a variable or alias that the called suite does not have."""
    suite = library.suite(slug)
    for what, names, known in (("variable", given, suite.vars), ("alias", systems, suite.systems)):
        if lacking := sorted(set(names) - set(known)):
            raise CannotRun(f"suite '{suite.slug}' has no {what} '{lacking[0]}'; it has {', '.join(known) or 'none'}")
    frame = FRAME.get()
    if suite is library.own or (frame is not None and suite is frame.suite):
        kept = {alias: target_name(alias) for alias in suite.systems}
    else:
        kept = {}
    aliases = kept | {alias: target_name(caller) for alias, caller in systems.items()}
    about = {**around.run, "suite": suite.slug}
    values = replace(around, run=about, captures={}, vars={}, data={}, matrix={})
    if suite is library.own and frame is None:
        values = replace(values, matrix=around.matrix, data=around.data, vars=dict(around.vars))
        values.vars = {**values.vars, **given}
    else:
        values.vars = fill_vars({**suite.vars, **given}, values)
    return Frame(suite, values, aliases)
