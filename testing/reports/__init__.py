"""Which reports there are: each makes bytes of a complete run (`services.results.complete`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from testing.reports.json_report import json_report
from testing.reports.junit import junit_report

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """One row: how it is written, under which ending and as what it is served."""

    write: Callable[[Report], bytes]
    ending: str
    content_type: str


FORMATS = {
    "json": Format(json_report, "json", "application/json"),
    "junit": Format(junit_report, "xml", "application/xml"),
}
