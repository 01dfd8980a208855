"""JUnit XML as CI servers read it: one testcase per case run; failed is a failure, errored an error, else skipped.

Setup and teardown stand in it only when something was wrong with them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from testing.load.figures import lines_of
from testing.reports.telling import details, in_brief, name_of, shown_cases

# What XML 1.0 cannot hold, in any spelling (section 2.2).
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
TAGS = {
    "failed": "failure",
    "errored": "error",
    "inconclusive": "error",
    "blocked": "skipped",
    "skipped": "skipped",
    "cancelled": "skipped",
}


def junit_report(run: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the run as one testsuite within testsuites."""
    tags = [TAGS.get(case["verdict"], "") for case in in_brief(run)]
    figures = {
        "name": _clean(run["suite"]),
        "tests": str(len(tags)),
        "failures": str(tags.count("failure")),
        "errors": str(tags.count("error")),
        "skipped": str(tags.count("skipped")),
        "time": f"{run['took_s'] or 0:.3f}",
    }
    root = Element("testsuites", {key: value for key, value in figures.items() if key != "skipped"})
    suite = SubElement(
        root, "testsuite", {**figures, "timestamp": (run["started_at"] or run["created_at"]).rstrip("Z")}
    )
    properties = SubElement(suite, "properties")
    for name in ("id", "verdict", "reason", "flaky", "dirty"):
        SubElement(properties, "property", {"name": f"run.{name}", "value": _clean(str(run[name]))})
    head, end, tail = tostring(root, encoding="utf-8").rpartition(b"</testsuite>")
    yield b'<?xml version="1.0" encoding="UTF-8"?>\n' + head
    for case in shown_cases(run):
        yield tostring(_testcase(run, case), encoding="utf-8")
    yield end + tail + b"\n"


def _testcase(run: Mapping[str, Any], case: Mapping[str, Any]) -> Element:
    found = Element(
        "testcase",
        {"classname": _clean(run["suite"]), "name": _clean(name_of(case)), "time": f"{case['took_ms'] / 1000:.3f}"},
    )
    if tag := TAGS.get(case["verdict"]):
        said = _clean(case["reason"] or case["verdict"])
        element = SubElement(found, tag, {"message": said, "type": case["error_class"] or case["verdict"]})
        element.text = _clean(details(case))
    flags = [flag for flag in ("flaky", "dirty") if case[flag]]
    said_more = ([", ".join(flags)] if flags else []) + (lines_of(case["load"]) if case["load"] else [])
    if said_more:
        SubElement(found, "system-out").text = _clean("\n".join(said_more))
    return found


def _clean(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)
