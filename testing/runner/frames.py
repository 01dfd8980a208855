"""Where a step stands: in the case that runs, or in one that this called, with its own variables and aliases."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from endpoints.access.principal import Principal
from endpoints.errors import Refused
from endpoints.models import Credential, System
from testing.document.calls import check_calls
from testing.document.reader import read_suite
from testing.document.suite import Suite
from testing.models import Suite as StoredSuite
from testing.runner.scope import Values, fill_vars, secrets_named
from testing.steps.base import CannotRun


@dataclass(frozen=True, slots=True)
class Frame:
    """What a called case reads: its suite's variables, what it captured, and what its aliases stand for.

    `rights` sees what the run and the teams of all suites on the way here see: whoever writes
    a called suite gets nothing by it that only its callers may use.
    """

    suite: Suite
    values: Values
    aliases: Mapping[str, str]
    rights: Principal


FRAME: ContextVar[Frame | None] = ContextVar("FRAME", default=None)  # each of several steps at once has its own


@dataclass(frozen=True, slots=True)
class Library:
    """A document, and the stored suites that are called from it; read once, before the run begins."""

    own: Suite
    principal: Principal
    called: Mapping[str, Suite] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    # Whose the called suites are, the systems that they name, and the credentials that any of them reads.
    suite_owners: Mapping[str, int | None] = field(default_factory=dict)
    system_owners: Mapping[str, int | None] = field(default_factory=dict)
    credential_owners: Mapping[str, int | None] = field(default_factory=dict)

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
    owners: dict[str, int | None] = {}

    def find(slug: str) -> Suite | None:
        if slug not in called:
            row = StoredSuite.objects.visible_to(principal).filter(slug=slug).first()
            if row is None:
                return None
            called[slug], versions[slug], owners[slug] = read_suite(row.text), row.version, row.owner_id
        return called[slug]

    check_calls(own, find)
    library = Library(own, principal, called, versions, owners)
    if not called:
        return library
    slugs = {target.partition("/")[0] for target in library.systems.values()}
    systems = System.objects.visible_to(principal).filter(slug__in=slugs)
    names = {path[0] for path in secrets_named(library.texts)}
    credentials = Credential.objects.visible_to(principal).filter(name__in=names)
    return replace(
        library,
        system_owners=dict(systems.values_list("slug", "owner_id")),
        credential_owners=dict(credentials.values_list("name", "owner_id")),
    )


def check_replaced(library: Library, systems: Mapping[str, str]) -> None:
    """Raise Refused where somebody replaced systems who may not send secrets elsewhere, those of called suites too."""
    is_replaced = dict(systems) != dict(library.own.systems)
    if is_replaced and "secret." in library.texts and not library.principal.may("editor"):
        raise Refused("a suite that reads secrets may be sent elsewhere by an editor only", code="needs_editor")


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
    here = library.principal if frame is None else frame.rights
    rights = here if suite is library.own else _within(here, library.suite_owners[suite.slug])
    if suite is library.own or (frame is not None and suite is frame.suite):
        kept = {alias: target_name(alias) for alias in suite.systems}
    else:
        kept = _out_of_reach(library, suite, rights)
    aliases = kept | {alias: target_name(caller) for alias, caller in systems.items()}
    about = {**around.run, "suite": suite.slug}
    secrets = around.secrets if rights is here else _in_reach(library, around.secrets, rights)
    values = replace(around, run=about, secrets=secrets, captures={}, vars={}, data={}, matrix={})
    if suite is library.own and frame is None:
        values = replace(values, matrix=around.matrix, data=around.data, vars=dict(around.vars))
        values.vars = {**values.vars, **given}
    else:
        values.vars = fill_vars({**suite.vars, **given}, values)
    return Frame(suite, values, aliases, rights)


def _within(principal: Principal, owner_id: int | None) -> Principal:
    """Return who sees only what the principal and that team see; what is written by nobody's team, what is nobody's."""
    theirs = frozenset() if owner_id is None else frozenset((owner_id,))
    return replace(principal, team_ids=theirs if principal.team_ids is None else principal.team_ids & theirs)


def _in_reach(
    library: Library, secrets: Mapping[tuple[str, ...], str], rights: Principal
) -> dict[tuple[str, ...], str]:
    owners = library.credential_owners
    return {path: text for path, text in secrets.items() if path[0] in owners and rights.sees_team(owners[path[0]])}


def _out_of_reach(library: Library, suite: Suite, rights: Principal) -> dict[str, str]:
    """Return, for the aliases whose systems may not be asked, a name that leads nowhere and says so."""
    return {
        alias: f"{suite.slug}:{alias} (not for its team to use)"
        for alias, target in suite.systems.items()
        if not rights.sees_team(library.system_owners.get(target.partition("/")[0]))
    }
