"""What is kept of a load, as plain values: what reports, pages and charts are made from.

`figures_of` returns
    model       "open" | "closed"
    figures     {"iterations", "passed", "errors", "error_rate", "dropped", "dropped_rate", "arrivals",
                 "warmup_iterations", "seconds", "throughput", "errors_by_class": {class: count},
                 "latency": {"response"|"service": {"count", "min_ms", "mean_ms", "p50_ms", "p90_ms", "p95_ms",
                 "p99_ms", "p99_9_ms", "max_ms"}}, "steps": {name: the same, of cases with several steps}}
    generator   {"saturated": why or "", "late_share", "lag_p99_ms", "lag_max_ms", "cpu"}
    thresholds  [{"name", "metric", "stat", "p", "limit", "said", "actual", "actual_said", "unit", "ok", "implied"}]
    chart       {"width_s", "warmup_s", "unit": "arrivals/s"|"users", "series": {name: [a value each point]},
                 "distribution": [{"p", "response_ms", "service_ms"}], "errors": {class: count}}
    histograms  {"response"|"service": text}, HdrHistogram's encoding; they can be added to others

The names of the series are `meter.SERIES`, all of one length: `at_s` is where a point begins,
`arrivals done errors dropped` count what came within it, the latencies are None where nothing
came. Latencies are of the iterations that were judged; the series show the warm-up as well.
"""

from collections.abc import Mapping
from typing import Any

from testing.document.load import Load
from testing.load.judging import Facts, Judged, Judgement, in_unit, measured
from testing.load.meter import Meter
from testing.load.tally import Latencies

SHOWN = (50, 90, 95, 99, 99.9)
DISTRIBUTION = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100)


def figures_of(
    load: Load, meter: Meter, facts: Facts, judgement: Judgement, steps: Mapping[str, Latencies]
) -> dict[str, Any]:
    """Return it; see above."""
    whole, lag = meter.whole, meter.lag
    return {
        "model": load.model,
        "figures": {
            "iterations": whole.done,
            "passed": whole.done - whole.failed,
            "errors": whole.failed,
            "error_rate": measured(whole, facts.judged_s, "errors", "rate") or 0.0,
            "dropped": whole.dropped,
            "dropped_rate": measured(whole, facts.judged_s, "dropped", "rate") or 0.0,
            "arrivals": whole.arrivals,
            "warmup_iterations": meter.warm.done,
            "seconds": round(facts.judged_s, 3),
            "throughput": measured(whole, facts.judged_s, "throughput", "value") or 0.0,
            "errors_by_class": dict(whole.errors.most_common()),
            "latency": {"response": latency_of(whole.response), "service": latency_of(whole.service)},
            "steps": {name: latency_of(latencies) for name, latencies in steps.items()},
        },
        "generator": {
            "saturated": judgement.saturated,
            "late_share": round(lag.late_share, 4),
            "lag_p99_ms": lag.latencies.percentiles_ms([99]).get(99, 0.0),
            "lag_max_ms": lag.latencies.max_ms(),
            "cpu": lag.cpu,
        },
        "thresholds": [_threshold(judged) for judged in judgement.thresholds],
        "chart": {
            "width_s": meter.width_s,
            "warmup_s": load.warmup_s,
            "unit": "arrivals/s" if load.model == "open" else "users",
            "series": meter.series,
            "distribution": _distribution(whole.response, whole.service),
            "errors": dict(whole.errors.most_common()),
        },
        "histograms": {"response": whole.response.text(), "service": whole.service.text()},
    }


def latency_of(latencies: Latencies) -> dict[str, Any]:
    """Return what is shown of a histogram."""
    if not latencies.count:
        return {"count": 0}
    found = {f"p{p:g}_ms".replace(".", "_"): value for p, value in latencies.percentiles_ms(SHOWN).items()}
    ends = {"min_ms": latencies.min_ms(), "mean_ms": latencies.mean_ms(), "max_ms": latencies.max_ms()}
    return {"count": latencies.count, **ends, **found}


def _distribution(response: Latencies, service: Latencies) -> list[dict[str, Any]]:
    ours, theirs = response.percentiles_ms(DISTRIBUTION), service.percentiles_ms(DISTRIBUTION)
    return [{"p": p, "response_ms": ours.get(p), "service_ms": theirs.get(p)} for p in DISTRIBUTION if ours]


def _threshold(judged: Judged) -> dict[str, Any]:
    return {
        "name": judged.name,
        "metric": judged.metric,
        "stat": judged.stat,
        "p": judged.p,
        "limit": dict(judged.limit),
        "said": judged.said,
        "actual": judged.actual,
        "actual_said": in_unit(judged.actual, judged.unit),
        "unit": judged.unit,
        "ok": judged.ok,
        "implied": judged.is_implied,
    }


def lines_of(load: Mapping[str, Any]) -> list[str]:
    """Return a load for a terminal or a text report: a line that sums it up, and one for each threshold."""
    figures = load["figures"]
    latency = figures["latency"]["response"]
    spread = ", ".join(f"{name} {latency[f'{name}_ms']:,.1f} ms" for name in ("p50", "p95", "p99") if latency["count"])
    parts = [
        f"{figures['iterations']:,} iterations in {figures['seconds']:,.1f} s",
        f"{figures['throughput']:,.1f}/s",
        f"{figures['errors']:,} errors{_classes(figures['errors_by_class'])}",
        f"{figures['dropped']:,} dropped" if figures["dropped"] else "",
        spread,
    ]
    lines = [", ".join(filter(None, parts))]
    for threshold in load["thresholds"]:
        implied = " (nothing else is said of errors)" if threshold["implied"] else ""
        mark = "ok " if threshold["ok"] else "BAD"
        lines.append(f"{mark} {threshold['said']}: {threshold['actual_said']}{implied}")
    return lines


def _classes(errors: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{count:,} {name}' for name, count in errors.items())})" if errors else ""
