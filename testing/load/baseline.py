"""What a load is compared with: the same case in the last runs in which it passed, against the same systems."""

from endpoints.access.principal import Principal
from testing.document.load import Baseline, Load
from testing.load.judging import Judged, judge_against, measured
from testing.load.tally import Latencies, Tally
from testing.models import LoadResult, Part, Run, Verdict
from testing.runner.plan import Instance

LOOKED_AT = 200
USUAL = (("latency.response", 95.0), ("throughput", None))
Before = list[LoadResult]


def before(run: Run, instance: Instance, baseline: Baseline, by: Principal) -> Before:
    """Return the results to compare with, of runs that `by` may see, the newest first; fewer where there are no more.

    Whose the systems are says nothing: what was measured of the same ones stays comparable when a team hands one on.
    """
    rows = LoadResult.objects.filter(
        case_run__run__slug=run.slug,
        case_run__run__in=Run.objects.visible_to(by),
        case_run__case=instance.case.name,
        case_run__part=Part.CASE,
        case_run__verdict=Verdict.PASSED,
    ).exclude(case_run__run_id=run.pk)
    rows = rows.select_related("case_run", "case_run__run").defer("chart").order_by("-id")[:LOOKED_AT]
    same = [row for row in rows if _is_same(row, run, instance)]
    return same[: baseline.last]


def _is_same(row: LoadResult, run: Run, instance: Instance) -> bool:
    return row.case_run.matrix == dict(instance.matrix) and row.case_run.run.systems == run.systems


def compare(load: Load, whole: Tally, seconds: float, rows: Before) -> list[Judged]:
    """Return what comes of comparing: the figures that thresholds name, or the usual ones.

    A percentile of before is that of all those runs together, a throughput their mean.
    """
    if load.baseline is None or not rows:
        return []
    together = {name: _together(name, rows) for name in ("response", "service")}
    found = []
    for metric, p in _asked(load):
        if metric == "throughput":
            was = sum(row.figures["throughput"] for row in rows) / len(rows)
        else:
            was = together[metric.partition(".")[2]].percentiles_ms([p or 0.0]).get(p or 0.0, 0.0)
        actual = measured(whole, seconds, metric, "p" if p is not None else "value", p or 0.0)
        found.append(judge_against(actual, was, load.baseline.tolerance, metric, p))
    return found


def _together(name: str, rows: Before) -> Latencies:
    found = Latencies()
    for row in rows:
        found.add(Latencies(row.histograms[name]))
    return found


def _asked(load: Load) -> list[tuple[str, float | None]]:
    named = [
        (threshold.metric, threshold.p if threshold.stat == "p" else None)
        for threshold in load.thresholds
        if threshold.stat == "p" or threshold.metric == "throughput"
    ]
    return list(dict.fromkeys(named)) or list(USUAL)
