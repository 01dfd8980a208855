"""Results that other tools made, read into one shape: one row here and one file with a reader for each format."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import IO, Any

from testing.models import Verdict
from testing.outside.ctrf import read_ctrf
from testing.outside.junit import read_junit
from testing.outside.shape import KEPT_NAME, KEPT_REASON, NotRead, Result, Results, Try
from testing.runner.masking import Masker
from testing.runner.results import WORST
from testing.runner.targets import SECRET_FIELDS

Reader = Callable[[IO[bytes]], Results]

FORMATS: dict[str, Reader] = {"junit": read_junit, "ctrf": read_ctrf}
BEGINS = {b"<": "junit", b"{": "ctrf"}
BOM = b"\xef\xbb\xbf"
LOOKED_AT = 4096  # for where it begins
SHORTEST_SECRET = 8  # shorter ones would be found in the names of tests


def read(file: IO[bytes]) -> tuple[str, Results]:
    """Return the format of a file and what it says; raises TooLarge, NotRead or NotResults."""
    head = file.read(LOOKED_AT)
    mark = len(BOM) if head.startswith(BOM) else 0
    begin = head[mark:].lstrip()[:1]
    if begin not in BEGINS:
        raise NotRead("the report is neither XML (JUnit) nor a JSON object (CTRF)")
    form = BEGINS[begin]
    file.seek(mark)
    return form, FORMATS[form](file)


def masked(found: Results, credentials: Iterable[Mapping[str, Any]]) -> Results:
    """Return the results as they may be kept: without the secrets of these credentials, and no longer than is kept."""
    secrets = {str(data[name]) for data in credentials for name in SECRET_FIELDS if data.get(name)}
    text = Masker(secret for secret in secrets if len(secret) >= SHORTEST_SECRET).text
    for place, case in enumerate(found.cases):  # one by one: they may be large, and are needed once
        found.cases[place] = _masked(case, text)
    return replace(found, title=text(found.title)[:200])


def _masked(case: Result, text: Callable[[str], str]) -> Result:
    tries = [
        Try(found.verdict, text(found.message)[:KEPT_REASON], text(found.text), found.took_ms) for found in case.tries
    ]
    return replace(case, name=text(case.name)[:KEPT_NAME], tries=tries)


def verdict_of(found: Results) -> tuple[Verdict, str]:
    """Return how the whole ended and why, as a run of ours would: without one case that was judged, nothing passed."""
    verdicts = {case.verdict for case in found.cases}
    worst = next((verdict for verdict in WORST if verdict in verdicts), Verdict.INCONCLUSIVE)
    if worst == Verdict.SKIPPED or not verdicts:
        return Verdict.INCONCLUSIVE, "0 cases were judged, 1 is needed"
    if worst == Verdict.PASSED:
        flaky = [case.name for case in found.cases if case.is_flaky][:10]
        return worst, f"flaky: {', '.join(flaky)}" if flaky else ""
    first = next(case for case in found.cases if case.verdict == worst)
    return worst, f"{first.name}: {first.tries[-1].message or worst}"
