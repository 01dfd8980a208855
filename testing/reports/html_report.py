"""One page that explains a run to someone who has never seen the product: self-contained, without any script.

The verdict comes first, then what went wrong first, then every case. It stands alone: no
font, image or style from elsewhere, and it may be mailed, printed or kept for years.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from django.template.loader import render_to_string

from testing.reports import charts, load_charts
from testing.reports.shown import listed, literal, moment, pretty, span, visible
from testing.reports.telling import BAD, expected_of, name_of, shown_cases, step_name, wrong_step

Found = Mapping[str, Any]

TONES = {
    "passed": "ok",
    "failed": "bad",
    "errored": "bad",
    "inconclusive": "wait",
    "blocked": "wait",
    "cancelled": "muted",
    "skipped": "muted",
}
ORDER = ("failed", "errored", "inconclusive", "blocked", "cancelled", "skipped", "passed")
# One case that ended so, several, and what that means.
SAID = {
    "passed": ("passed", "passed", "everything it asserts held"),
    "failed": ("failed", "failed", "it was judged, and something it asserts did not hold"),
    "errored": ("could not be judged", "could not be judged", "something on our side of it went wrong"),
    "inconclusive": ("is inconclusive", "are inconclusive", "too little was seen to judge it"),
    "blocked": ("was blocked", "were blocked", "a case that it needs did not pass, so it did not run"),
    "cancelled": ("was cancelled", "were cancelled", "it was ended before it was done"),
    "skipped": ("was skipped", "were skipped", "it did not run"),
}
HEADLINES = {
    "passed": "Passed",
    "failed": "Failed",
    "errored": "Could not be judged",
    "inconclusive": "Inconclusive",
    "blocked": "Blocked",
    "cancelled": "Cancelled",
    "skipped": "Skipped",
    None: "Still running",
}
PHASES = (
    ("dns", "name resolved"),
    ("connect", "connected"),
    ("tls", "TLS handshake"),
    ("first_byte", "waited for the answer"),
    ("rest", "the rest"),
)
MOST_ROWS, MOST_DETAILS, MOST_STEPS = 2000, 200, 60


def html_report(run: Found) -> Iterator[bytes]:
    """Yield the run as one HTML page, of which it takes the whole run."""
    yield render_to_string("reports/run.html", _page(visible(run))).encode()


def _page(run: Found) -> dict[str, Any]:
    cases = sorted(shown_cases(run), key=lambda case: (ORDER.index(case["verdict"]), case["number"]))
    counts = [(verdict, sum(case["verdict"] == verdict for case in cases)) for verdict in ORDER]
    counts = [(verdict, count) for verdict, count in counts if count]
    timeline = charts.Timeline(run)
    wrong = [case for case in cases if case["verdict"] in BAD]
    told = [_told(case) for case in wrong[:MOST_DETAILS]]
    rows = [_row(case, timeline) for case in cases[:MOST_ROWS]]
    return {
        "run": run,
        "tone": TONES.get(run["verdict"], "muted"),
        "headline": HEADLINES[run["verdict"]],
        "sentence": _sentence(counts, len(cases)),
        "why": "" if told and told[0]["reason"] in run["reason"] else run["reason"],
        "part": _part(run),
        "flags": [flag for flag in ("flaky", "dirty") if run[flag]],
        "facts": _facts(run),
        "shares": [
            {**part, "tone": TONES[part["name"]], "means": SAID[part["name"]][2]} for part in charts.shares(counts)
        ],
        "is_emptied": bool(run["bodies_removed_at"]),
        "first": told[0] if told else None,
        "others": told[1:],
        "rows": rows,
        "rows_left": len(cases) - len(rows),
        "wrong_left": len(wrong) - len(told),
        "ticks": timeline.ticks(),
        "loads": load_charts.loads(run, name_of, TONES),
        "slowest": charts.slowest(run, name_of, step_name),
        "phases": PHASES,
    }


def _sentence(counts: list[tuple[str, int]], total: int) -> str:
    """Return how the cases ended, in one sentence."""
    if not total:
        return "No case ran."
    if len(counts) == 1 and total > 1:
        return f"All {total} cases {SAID[counts[0][0]][1]}."
    parts = [f"{count} {SAID[verdict][0 if count == 1 else 1]}" for verdict, count in counts]
    noun = "case" if total == 1 else "cases"
    return f"Of {total} {noun}, {listed(parts)}." if total > 1 else f"The one case {SAID[counts[0][0]][0]}."


def _facts(run: Found) -> list[tuple[str, str]]:
    version = run["document"]["version"]
    systems = ", ".join(name if alias == name else f"{alias}: {name}" for alias, name in run["systems"].items())
    facts = [
        ("Suite", f"{run['suite']}{f', version {version}' if version else ''}"),
        ("Systems", systems),
        ("Started", moment(run["started_at"] or run["created_at"])),
        ("Took", span(run["took_s"] * 1000) if run["took_s"] is not None else ""),
        ("Imported from" if run["imported_as"] else "", (run["imported_as"] or "").upper()),
        ("Started by", run["created_by"]),
    ]
    return [(name, text) for name, text in facts if name and text]


def _part(run: Found) -> str:
    """Return what stands for the cases that are not here: a part that passed is no suite that passed."""
    if not run["is_part"]:
        return ""
    asked = "what did not pass in an earlier run" if run["rerun_of"] else "the cases that were asked for"
    return f"Only {asked} and what that needs was run: this is not the verdict of the whole suite."


# --- one case ------------------------------------------------------------------


def _row(case: Found, timeline: charts.Timeline) -> dict[str, Any]:
    return {
        "anchor": f"case-{case['number']}",
        "name": name_of(case),
        "part": "" if case["part"] == "case" else case["part"],
        "verdict": case["verdict"],
        "tone": TONES[case["verdict"]],
        "reason": case["reason"],
        "flags": [flag for flag in ("flaky", "dirty") if case[flag]],
        "took": span(case["took_ms"]) if case["started_at"] else "",
        "bar": timeline.bar(case),
        "steps": [_step(step) for step in case["steps"][:MOST_STEPS]],
        "steps_left": max(0, len(case["steps"]) - MOST_STEPS),
    }


def _step(step: Found) -> dict[str, Any]:
    last = step["attempts"][-1] if step["attempts"] else None
    return {
        "name": step_name(step),
        "kind": step["kind"],
        "depth": step["path"].count("."),
        "is_cleanup": step["phase"] == "cleanup",
        "round": step["round"] if step["round"] > 1 else 0,
        "verdict": step["verdict"],
        "tone": TONES[step["verdict"]],
        "reason": step["reason"],
        "took": span(step["took_ms"]),
        "tries": step["tries"],
        "held": sum(check["ok"] for check in last["checks"]) if last else 0,
        "asked": _asked(last["request"]) if last else "",
    }


def _told(case: Found) -> dict[str, Any]:
    """Return what went wrong with a case, for someone who has nothing but this page."""
    step = wrong_step(case)
    attempts = step["attempts"] if step else []
    last = attempts[-1] if attempts else None
    return {
        "anchor": f"wrong-{case['number']}",
        "case": name_of(case),
        "verdict": case["verdict"],
        "tone": TONES[case["verdict"]],
        "reason": case["reason"],
        "flags": [flag for flag in ("flaky", "dirty") if case[flag]],
        "step": step,
        "is_load": bool(case.get("load")),
        "rounds": case["rounds"],
        "tries": step["tries"] if step else 0,
        "at": moment(last["started_at"]) if last else "",
        "took": span(last["took_ms"]) if last else "",
        "checks": [_check(check) for check in last["checks"] if not check["ok"]] if last else [],
        "held": sum(check["ok"] for check in last["checks"]) if last else 0,
        "error": (last["error"] or "") if last else "",
        "request": _request(last["request"]) if last else None,
        "answer": _answer(last["response"]) if last else None,
        "first_try": _first_try(attempts),
    }


def _check(check: Found) -> dict[str, Any]:
    """Return expected beside actual; an assertion that could not be read at all has neither."""
    return {
        "where": check.get("where") or check["subject"],
        "expected": expected_of(check),
        "actual": literal(check.get("actual")) if check.get("actual") is not None else "",
        "detail": check.get("detail", ""),
        "line": check["line"],
    }


def _asked(request: Found) -> str:
    return " ".join(str(request[name]) for name in ("method", "url") if request.get(name))


def _request(request: Found) -> dict[str, Any] | None:
    if not request:
        return None
    rest = {name: value for name, value in request.items() if name not in ("method", "url", "headers", "body")}
    return {
        "line": _asked(request),
        "headers": sorted(request["headers"].items()) if isinstance(request.get("headers"), Mapping) else [],
        "body": pretty(request["body"]) if request.get("body") else "",
        "rest": pretty(rest) if rest else "",
    }


def _answer(response: Found) -> dict[str, Any] | None:
    if not response:
        return None
    rest = {name: value for name, value in response.items() if name not in ("status", "headers", "body", "truncated")}
    return {
        "status": str(response.get("status", "")),
        "headers": sorted(response["headers"].items()) if isinstance(response.get("headers"), Mapping) else [],
        "body": pretty(response["body"]) if response.get("body") else "",
        "is_cut": bool(response.get("truncated")),
        "rest": pretty(rest) if rest else "",
    }


def _first_try(attempts: list[Found]) -> str:
    """Return what the first of several attempts said, if that differs from the last."""
    if len(attempts) < 2:
        return ""
    first, last = (_said(attempts[place]) for place in (0, -1))
    return "" if first == last else first


def _said(attempt: Found) -> str:
    wrong = [check["detail"] for check in attempt["checks"] if not check["ok"] and check.get("detail")]
    return "; ".join(wrong) or attempt["error"] or ""
