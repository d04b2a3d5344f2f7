"""Checks of serving loads over several points, and of the engines that they ran on."""

from statistics import median

from raybench.ledger.view import RunView
from raybench.records import Finding
from raybench.records.loads import ClosedLoad, OpenLoad
from raybench.validity.engine import used_engines
from raybench.validity.load import Run, load_runs, of_run

DECREASE_FRACTION = 0.1
"""More load may not shorten the median wait; a tenth is left for what single runs cannot show."""


def load_trend_findings(view: RunView) -> list[Finding]:
    """Findings over points and engines, by target and sweep in plan order."""
    runs = list(load_runs(view))
    return [*_ttft_not_monotonic(runs), *_untuned_kernels(view), *_beyond_capacity(runs)]


def _value(run: Run) -> float | None:
    load = run.unit.load
    if isinstance(load, ClosedLoad):
        return float(load.concurrency)
    return load.rate_per_s if isinstance(load, OpenLoad) else None


def _ttft_not_monotonic(runs: list[Run]) -> list[Finding]:
    """A point that waits longer for first tokens than one with more load, in all of its repeats."""
    sweeps: dict[tuple[str, str], dict[float, list[Run]]] = {}
    for run in runs:
        value = _value(run)
        if run.unit.probe is None and value is not None and run.figures.ttft_s is not None:
            sweeps.setdefault((run.unit.target, run.unit.sweep), {}).setdefault(value, []).append(run)
    found: list[Finding] = []
    for points in sweeps.values():
        values = sorted(points)
        waits = {value: [_wait_s(run) for run in points[value]] for value in values}
        for place, value in enumerate(values):
            faster = [
                other
                for other in values[place + 1 :]
                if median(waits[value]) > median(waits[other]) * (1 + DECREASE_FRACTION)
                and min(waits[value]) > max(waits[other])
            ]
            if faster:
                best = min(faster, key=lambda other: median(waits[other]))
                found.append(_slower(points[value][0], points[best][0], median(waits[value]), median(waits[best])))
    return found


def _wait_s(run: Run) -> float:
    return run.figures.ttft_s.p50 if run.figures.ttft_s is not None else 0.0


def _slower(run: Run, other: Run, wait_s: float, other_wait_s: float) -> Finding:
    evidence = {"ttft_s": wait_s, "larger_load": _value(other) or 0.0, "larger_ttft_s": other_wait_s}
    rule = f"the median TTFT may not fall by more than {DECREASE_FRACTION:.0%} as the load grows"
    advice = (
        "This point is suspect: a start-up burst, a kernel that was compiled, or another user of the machine. Repeat "
        "it, and do not compare targets at this load."
    )
    return of_run(run, "ttft_not_monotonic", "warn", (rule, evidence, advice))


def _untuned_kernels(view: RunView) -> list[Finding]:
    found: list[Finding] = []
    for target in view.config.targets:
        names = dict.fromkeys(name for facts in used_engines(view, target.name) for name in facts.untuned_kernels)
        if names:
            found.append(
                Finding(
                    code="untuned_kernels", severity="warn", scope="target", target=target.name,
                    rule="the server finds a tuned configuration for every kernel that it uses",
                    evidence={"num_kernels": float(len(names))},
                    advice=(
                        f"It says that performance might be sub-optimal without {_shown(list(names))}. Tune these "
                        "kernels for this GPU with the engine's own scripts before the figures stand for the GPU."
                    ),
                )
            )  # fmt: skip
    return found


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"{' and '.join(names[:2])}{more}"


def _beyond_capacity(runs: list[Run]) -> list[Finding]:
    """Closed loops with more users than the engine says it can run, where its metrics do not show it."""
    found: list[Finding] = []
    for run in runs:
        capacity = capacity_of(run)
        users = run.unit.load.concurrency if isinstance(run.unit.load, ClosedLoad) else 0
        told = run.server is not None and run.server.mean_queued is not None
        if capacity is None or users <= capacity or told:
            continue
        rule = "the users of a closed loop are at most min(max_running_requests, KV cache / (input + output tokens))"
        advice = "More users than that only wait in the server's queue. Read this point by its running requests."
        found.append(of_run(run, "queue_not_concurrency", "info", (rule, {"capacity": float(capacity)}, advice)))
    return found


def capacity_of(run: Run) -> int | None:
    """Requests that the engine can run at once, by its own facts; None where it does not say."""
    facts, seen = run.engine, run.figures
    if facts is None:
        return None
    limits: list[int] = []
    running = facts.resolved_args.get("max_running_requests")
    if isinstance(running, int) and running > 0:
        limits.append(running)
    ended = seen.statuses.get("ok", 0)
    if facts.max_total_tokens and ended:
        tokens = (seen.asked_input_tokens + seen.output_tokens) / ended
        limits.append(int(facts.max_total_tokens / tokens))
    return min(limits, default=None)
