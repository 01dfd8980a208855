"""JUnit XML, as the many tools that write it do: pytest, Maven, Gradle, Jest, go-junit-report and ourselves.

It is read as it streams by, never as a tree: a document type, an entity, or more
elements than any test run has ends the reading there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from testing.models import Verdict
from testing.outside.shape import (
    KEPT_TEXT,
    MAX_CASES,
    MAX_EARLIER,
    NotRead,
    NotResults,
    Result,
    Results,
    Try,
    duration_ms,
    moment,
    too_many,
    too_many_tries,
)

DEEPEST = 32
MOST_ELEMENTS = 150_000
CHUNK = 64 * 1024
LONGEST_TAG = 4  # chunks
# What an element below a case says of it; `flaky...` and `rerun...` are tries before the last (Surefire).
ENDS = {"failure": Verdict.FAILED, "error": Verdict.ERRORED, "skipped": Verdict.SKIPPED}
EARLIER = {
    "flakyFailure": Verdict.FAILED,
    "flakyError": Verdict.ERRORED,
    "rerunFailure": Verdict.FAILED,
    "rerunError": Verdict.ERRORED,
}
EARLIER_TAGS = [f"<{tag}".encode() for tag in EARLIER]
OUTPUT = ("system-out", "system-err")
SUITES = ("testsuites", "testsuite")
COUNTS = ("failures", "errors")
WRONG = frozenset({"failure", "error", *EARLIER})
# Verdicts of ours that JUnit has no word for stand as the type of an element it has.
OURS = frozenset({Verdict.BLOCKED, Verdict.CANCELLED, Verdict.INCONCLUSIVE})
WORST = (Verdict.ERRORED, Verdict.FAILED, Verdict.SKIPPED)


def read_junit(file: IO[bytes]) -> Results:
    """Return what the report says; raises NotRead with the place, or NotResults."""
    _count(file)
    reader = _Reader()
    parser = XMLParser(target=reader, forbid_dtd=True)
    try:
        while chunk := file.read(CHUNK):
            parser.feed(chunk)
            reader.fed()
        parser.close()
    except DefusedXmlException as exc:
        raise NotRead("the report declares a document type or an entity; neither is read") from exc
    except ParseError as exc:
        raise NotRead(f"the report is not valid XML: {exc}") from exc
    except (LookupError, ValueError) as exc:  # an encoding that is none
        raise NotRead(f"the report cannot be decoded: {exc}") from exc
    return reader.results()


def _count(file: IO[bytes]) -> None:
    """Refuse what holds too much by the look of it, which costs a tenth of reading it."""
    begin, is_plain, last = file.tell(), True, b""
    cases = earlier = opened = closed = 0
    while chunk := file.read(CHUNK):
        cases += chunk.count(b"<testcase")
        earlier += sum(map(chunk.count, EARLIER_TAGS))
        ends = chunk.count(b"</")
        opened += chunk.count(b"<") - ends - chunk.endswith(b"<")
        closed += chunk.count(b"/>") + ends
        is_plain = is_plain and b"<!" not in last + chunk  # what is quoted may hold any number of them
        last = chunk[-1:]
    if cases > MAX_CASES or (is_plain and min(opened, closed) > MOST_ELEMENTS):
        raise too_many()
    if earlier > MAX_EARLIER:
        raise too_many_tries()
    file.seek(begin)


@dataclass
class _Case:
    attributes: dict[str, str]
    ends: list[tuple[Verdict, Try]] = field(default_factory=list)
    earlier: list[Try] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    is_flaky: bool = False


class _Reader:
    """Takes elements as they open and close; nothing of them is kept but what makes a result."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._elements = self._events = self._heard = self._silent = 0
        self._root: dict[str, str] = {}
        self._suites: list[dict[str, str]] = []
        self._told: list[tuple[dict[str, str], int]] = []  # those open, and how much was wrong before each
        self._wrong = 0
        self._names: list[str] = []
        self._times: list[datetime] = []
        self._seconds = 0.0
        self._earlier = 0
        self._cases: list[_Case] = []  # those open, one within another
        self._said: dict[str, str] = {}
        self._text: list[str] = []
        self._kept = 0
        self.cases: list[Result] = []

    def fed(self) -> None:
        """Count a chunk; raises NotResults when there is no end to one tag, which is read only once it is whole."""
        self._silent = self._silent + 1 if self._heard == self._events else 0
        self._heard = self._events
        if self._silent >= LONGEST_TAG:
            raise NotResults(f"one tag of the report is longer than {LONGEST_TAG * CHUNK // 1024} KiB")

    # --- what the parser calls

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition("}")[2]
        self._events += 1
        self._elements += 1
        if len(self._open) >= DEEPEST:
            raise NotResults(f"the report is nested deeper than {DEEPEST}")
        if self._elements > MOST_ELEMENTS:
            raise too_many()
        if not self._open:
            self._begin(tag, attributes)
        self._open.append(tag)
        if tag in SUITES:
            self._told.append((dict(attributes), self._wrong))
        if tag == "testsuite":
            self._begin_suite(attributes)
        elif tag == "testcase":
            self._cases.append(_Case(dict(attributes)))
        elif self._cases and (tag in ENDS or tag in EARLIER or tag in OUTPUT):
            self._said, self._text, self._kept = dict(attributes), [], 0

    def data(self, data: str) -> None:
        self._events += 1
        if self._cases and self._kept < KEPT_TEXT:
            self._text.append(data)
            self._kept += len(data)

    def end(self, tag: str) -> None:
        tag = self._open.pop()
        if tag == "testcase":
            self._add(self._result(self._cases.pop()))
        elif self._cases and tag not in SUITES:
            self._note(tag, self._cases[-1])
        if tag in SUITES:
            self._hold_to_count(*self._told.pop())
        if tag == "testsuite":
            self._suites.pop()

    def close(self) -> None:
        """Nothing is left to hand over."""

    # --- what comes of it

    def results(self) -> Results:
        title = self._root.get("name") or next(iter(self._names), "") or "JUnit"
        return Results(title, self.cases, min(self._times, default=None), duration_ms(self._seconds * 1000))

    def _begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag not in SUITES:
            raise NotResults(f"the report begins with <{tag[:40]}>, not with <testsuites> or <testsuite>")
        self._root = dict(attributes)
        self._seconds = _number(attributes)

    def _begin_suite(self, attributes: dict[str, str]) -> None:
        self._suites.append(dict(attributes))
        self._names += [attributes["name"]] if attributes.get("name") and len(self._names) < 1 else []
        if at := moment(attributes.get("timestamp", "")):
            self._times.append(at)

    def _add(self, result: Result) -> None:
        if len(self.cases) >= MAX_CASES:
            raise too_many()
        self.cases.append(result)

    def _hold_to_count(self, suite: dict[str, str], wrong_before: int) -> None:
        """Add what a suite counts as wrong and none of its cases shows: such a report is not one that passed."""
        told = {name: suite[name] for name in COUNTS if _number(suite, name) > 0}
        if not told or self._wrong > wrong_before:
            return
        self._wrong += 1
        counted = " and ".join(f'{name}="{count[:20]}"' for name, count in told.items())
        why = f"the report counts {counted} here and shows no such case"
        self._add(Result(f"{suite.get('name') or 'the report'}: counts", Verdict.ERRORED, [Try(Verdict.ERRORED, why)]))

    def _note(self, tag: str, case: _Case) -> None:
        text = "".join(self._text)[:KEPT_TEXT]
        self._wrong += tag in WRONG
        if tag in ENDS:
            kind = self._said.get("type", "")
            verdict = Verdict(kind) if kind in OURS else ENDS[tag]
            case.ends.append((verdict, Try(verdict, _message(self._said, text), text)))
        elif tag in EARLIER:
            self._earlier += 1
            if self._earlier > MAX_EARLIER:
                raise too_many_tries()
            case.is_flaky |= tag.startswith("flaky")
            case.earlier.append(Try(EARLIER[tag], _message(self._said, text), text))
        elif tag in OUTPUT and text.strip():
            case.output.append(text)
        self._text, self._kept = [], 0

    def _result(self, case: _Case) -> Result:
        took = duration_ms(_number(case.attributes) * 1000)
        ends = sorted(case.ends, key=lambda end: WORST.index(end[0]) if end[0] in WORST else -1)
        verdict, last = ends[0] if ends else (Verdict.PASSED, Try(Verdict.PASSED))
        output = "\n".join(case.output)[:KEPT_TEXT]
        last = Try(verdict, last.message, "\n".join(filter(None, (last.text, output)))[:KEPT_TEXT], took)
        at = moment(case.attributes.get("timestamp", ""))
        at = at or moment(self._suites[-1].get("timestamp", "") if self._suites else "")
        line = case.attributes.get("line", "")
        return Result(
            self._name(case.attributes),
            verdict,
            [*case.earlier, last],
            took,
            at,
            is_flaky=case.is_flaky and verdict == Verdict.PASSED,
            line=int(line) if line.isascii() and line.isdigit() and len(line) < 8 else 0,
        )

    def _name(self, attributes: dict[str, str]) -> str:
        """Return the case's name behind its class, unless that says no more than the suite's name."""
        name, of = attributes.get("name") or "unnamed", attributes.get("classname", "")
        known: Sequence[Any] = (self._root.get("name"), self._suites[-1].get("name") if self._suites else "")
        return name if not of or of in known else f"{of}.{name}"


def _message(said: dict[str, str], text: str) -> str:
    """Return the reason: the message, or the first line of the text, or the type."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return said.get("message") or first or said.get("type", "")


def _number(attributes: dict[str, str], name: str = "time") -> float:
    """Return a number that an attribute says; what says none is 0."""
    try:
        return float(attributes.get(name, "").replace(",", ""))
    except ValueError:
        return 0.0
