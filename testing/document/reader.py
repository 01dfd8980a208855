"""Text in, a checked Suite out; every fault is told with its line and column, as many at once as can be found."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from testing.document import references
from testing.document.calls import check_own_calls
from testing.document.json_text import read_json
from testing.document.load import check_load, make_load
from testing.document.nodes import Faults, Node, refuse, unknown
from testing.document.references import ROOTS, Names
from testing.document.shapes import SUITE
from testing.document.suite import Case, Data, Execution, Gate, Need, Retry, Schedule, Step, Suite
from testing.document.yaml_text import read_yaml
from testing.errors import BadDocument
from testing.steps import STEPS, step_class

MAX_BYTES = 1024 * 1024
MAX_COMBINATIONS = 256
TOLD_TO_ALL = ("dns",)  # kinds of steps
IN_VARS = ("run", "matrix", "data", "iteration", "secret", "uuid", "now")


def read_suite(source: bytes | str, name: str = "") -> Suite:
    """Return the suite in `source`; raises BadDocument. A `name` that ends in .json is read as JSON only."""
    body = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
    if len(body) > MAX_BYTES:
        raise refuse((1, 1), f"the document has {len(body)} bytes, over the limit of 1 MiB; it was not read")
    try:
        text = body.decode()
    except UnicodeDecodeError as exc:
        line = body.count(b"\n", 0, exc.start) + 1
        raise refuse((line, exc.start - body.rfind(b"\n", 0, exc.start)), "not valid UTF-8") from exc
    root = _parse(text.removeprefix("\ufeff"), name)
    faults = Faults()
    values = SUITE.read(root, "", faults)
    faults.stop()
    _check(root, values, faults)
    faults.stop()
    suite = _suite(values, text)
    check_own_calls(suite)
    return suite


def _parse(text: str, name: str) -> Node:
    """Read JSON where it is meant: by its name, or because it is."""
    if name.endswith(".json"):
        return read_json(text)
    if text.lstrip().startswith("{"):
        try:
            return read_json(text)
        except BadDocument:
            return read_yaml(text)  # YAML in braces
    return read_yaml(text)


# --- what one place cannot tell by itself --------------------------------------


def _check(root: Node, values: Mapping[str, Any], faults: Faults) -> None:
    cases = root.value["cases"].value
    names = [case["case"] for case in values["cases"]]
    for index, (node, case) in enumerate(zip(cases, values["cases"], strict=True)):
        if case["case"] in names[:index]:
            faults.add(node.value["case"], f"cases.{index}", f"there is a case '{case['case']}' already")
        for at, need in enumerate(case["needs"]):
            if need not in names:
                place = f"cases.{index}.needs.{at}"
                known = ", ".join(names[:20])
                faults.add(node.value["needs"].value[at], place, f"there is no case '{need}'; there are {known}")
        if case["load"]:
            check_load(node, case, f"cases.{index}", faults)
    if cycle := find_cycle({case["case"]: case["needs"] for case in values["cases"]}):
        first = names.index(cycle[0])
        faults.add(cases[first].value["needs"], f"cases.{first}.needs", f"a cycle: {' -> '.join(cycle)}")
    _check_locks(root, values, faults)
    combinations = 1
    for choices in values["matrix"].values():
        combinations *= len(choices)
    if combinations > MAX_COMBINATIONS:
        faults.add(root.value["matrix"], "matrix", f"{combinations} combinations, over {MAX_COMBINATIONS}")
    _check_references(root, values, faults)


def _check_locks(root: Node, values: Mapping[str, Any], faults: Faults) -> None:
    """A case that waits for what its own run holds would wait for ever."""
    held = set(values["execution"]["locks"]) if values["execution"] else set()
    for index, case in enumerate(values["cases"]):
        for name in held.intersection(case["locks"]):
            node = root.value["cases"].value[index].value["locks"]
            faults.add(node, f"cases.{index}.locks", f"the whole run holds the lock '{name}'")


def find_cycle(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names of a cycle, its first again at its end; empty when there is none."""
    done: set[str] = set()
    for start in needs:
        path: list[str] = []
        stack = [(start, iter(needs[start]))] if start not in done else []
        path.append(start)
        while stack:
            name, below = stack[-1]
            following = next((need for need in below if need in needs and need not in done), None)
            if following is None:
                done.add(name)
                stack.pop()
                path.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            else:
                path.append(following)
                stack.append((following, iter(needs[following])))
    return []


def _check_references(root: Node, values: Mapping[str, Any], faults: Faults) -> None:
    data = values["data"]
    columns: frozenset[str] | None = frozenset()
    if data is not None:
        columns = None if data["rows"] is None else frozenset(name for row in data["rows"] for name in row)
    known = Names(
        frozenset(values["vars"]),
        frozenset(values["matrix"]),
        columns,
        aliases=tuple(values["systems"]),
        secret=frozenset(name for name, value in values["vars"].items() if references.reads(value, "secret")),
    )
    if "vars" in root.value:
        references.check(root.value["vars"], "vars", replace(known, roots=IN_VARS), faults)
    for part in ("matrix", "data"):
        if part in root.value:
            references.check(root.value[part], part, replace(known, roots=()), faults)
    for part in ("setup", "teardown"):
        if part in root.value:
            # Once for all cases: nothing of one combination or row is known here.
            roots = tuple(name for name in ROOTS if name not in ("matrix", "data", "iteration"))
            own = replace(known, roots=roots, captures=set(known.captures))
            _check_steps(root.value[part], part, own, faults)
            known.captures |= own.captures if part == "setup" else set()
    for index, case in enumerate(root.value["cases"].value):
        own = replace(known, captures=set(known.captures))
        _check_steps(case.value["steps"], f"cases.{index}.steps", own, faults)


def _check_steps(steps: Node, place: str, names: Names, faults: Faults) -> None:
    """Walk steps as they run: what one captures, those behind it may read."""
    for index, step in enumerate(steps.value if isinstance(steps.value, list) else [steps]):
        at = f"{place}.{index}"
        for key, child in step.value.items():
            if key == "group":
                inner = child.value["steps"] if isinstance(child.value, dict) else child
                _check_steps(inner, f"{at}.group.steps", names, faults)
            elif key in STEPS or key == "assert":
                references.check(child, f"{at}.{key}", _readable(key, names), faults)
            if key in STEPS:
                _check_aliases(key, child, f"{at}.{key}", names, faults)
        if "capture" in step.value:
            names.captures |= set(step.value["capture"].value)
        if "cleanup" in step.value:
            _check_steps(step.value["cleanup"], f"{at}.cleanup", names, faults)


def _readable(kind: str, names: Names) -> Names:
    """Return what may be read there: a name to resolve is told to every server on the way, so secrets may not."""
    if kind not in TOLD_TO_ALL:
        return names
    return replace(names, roots=tuple(name for name in names.roots if name != "secret"), vars=names.vars - names.secret)


def _check_aliases(kind: str, params: Node, place: str, names: Names, faults: Faults) -> None:
    found = step_class(kind)
    given = params.value if isinstance(params.value, dict) else {getattr(found.SHAPE, "short", ""): params}
    for name in found.ALIASES:
        alias = given.get(name)
        if alias is None or not isinstance(alias.value, str) or "${{" in alias.value:
            continue
        if alias.value not in names.aliases:
            faults.add(alias, f"{place}.{name}", unknown("system", alias.value, list(names.aliases)))


# --- from tables to a suite ----------------------------------------------------


def _suite(values: Mapping[str, Any], text: str) -> Suite:
    execution, gate, data = values["execution"], values["gate"], values["data"]
    return Suite(
        slug=values["suite"],
        title=values["title"] or values["suite"],
        type=values["type"],
        labels=tuple(values["labels"]),
        systems=values["systems"],
        needs=tuple(Need(need["suite"], need["if"], need["within"]) for need in values["needs"]),
        vars=values["vars"],
        matrix=values["matrix"],
        data=Data(data["rows"] or (), data["csv"] or "", data["pick"]) if data else None,
        execution=_execution(execution) if execution else Execution(),
        gate=Gate(gate["flaky"], gate["min_cases"]) if gate else Gate(),
        setup=_steps(values["setup"]),
        teardown=_steps(values["teardown"]),
        cases=tuple(_case(case) for case in values["cases"]),
        text=text,
        schedule=Schedule(**values["schedule"]) if values["schedule"] else None,
        triggers=tuple(dict.fromkeys(values["triggers"])),
    )


def _execution(given: Mapping[str, Any]) -> Execution:
    return Execution(
        mode=given["mode"],
        max=given["max"],
        fail_fast=given["fail_fast"],
        timeout_s=given["timeout"],
        location=given["location"],
        locks=_locks(given),
    )


def _locks(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names in one order, so that no two who want several wait for each other."""
    return tuple(sorted(set(given["locks"])))


def _case(case: Mapping[str, Any]) -> Case:
    retry = case["retry"]
    return Case(
        name=case["case"],
        needs=tuple(dict.fromkeys(case["needs"])),
        timeout_s=case["timeout"],
        retry=Retry(retry["max"], retry["every"], retry["backoff"], tuple(retry["if"])) if retry else Retry(),
        steps=_steps(case["steps"]),
        locks=_locks(case),
        load=make_load(case["load"]) if case["load"] else None,
    )


def _steps(steps: Iterable[Step]) -> tuple[Step, ...]:
    return tuple(steps)
