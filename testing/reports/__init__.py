"""Which reports there are: each makes bytes of a complete run (`services.results.complete`)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testing.reports.ctrf import ctrf_report
from testing.reports.html_report import html_report
from testing.reports.json_report import json_report
from testing.reports.junit import junit_report

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """One row: how it is written, under which ending and as what it is served."""

    parts: Callable[[Report], Iterator[bytes]]
    ending: str
    content_type: str
    policy: str = ""  # what a browser may do with it; without one, what it may do with any page
    opens: bool = False  # a person reads it as it is
    whole: bool = False  # it tells all that was answered
    is_streamed: bool = True  # however large, it is written from one case after the other

    def write(self, run: Report) -> bytes:
        return b"".join(self.parts(run))


# It holds what other systems said: no browser may run, load or send anything for it.
INERT = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


FORMATS = {
    "json": Format(json_report, "json", "application/json", whole=True),
    "junit": Format(junit_report, "xml", "application/xml"),
    "html": Format(html_report, "html", "text/html; charset=utf-8", INERT, opens=True, is_streamed=False),
    "ctrf": Format(ctrf_report, "ctrf", "application/json"),
}
