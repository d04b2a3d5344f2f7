"""A slow node is named; a fleet that is well is silent; the report says what it could have seen."""

import random

from ledger_builder import LedgerBuilder, config
from report_cases import terminal_text

from raybench.config.schema import RunConfig
from raybench.plan.expand import expand
from raybench.records import PerfMeasurement, PerfUnit
from raybench.report.markdown import render
from raybench.report.summary import make_report
from raybench.validity.acceptance import acceptance_findings

SWEEP = {
    "name": "every", "every_node": True, "batch_sizes": [1, 4, 16], "input_tokens": 1000, "output_tokens": 101,
    "repeats": 4,
}  # fmt: skip


def settings(num_nodes: int = 4, **sweep: object) -> RunConfig:
    target = {"name": "alpha", "accelerator": "H200", "gpus_per_node": 8, "nodes": num_nodes}
    return config(targets=[target], perf=[SWEEP | sweep], evals=[])


def fleet(slower: float = 1.0, of: RunConfig | None = None, absent: tuple[int, ...] = ()) -> LedgerBuilder:
    """Every node does its own place, `n2` takes `slower` times as long; noise of 1% a pass from a seed."""
    builder = LedgerBuilder(of or settings())
    builder.plan = expand(builder.settings, {})
    builder.session()
    builder.planned()
    rng = random.Random(5)
    for number in range(builder.settings.targets[0].nodes):
        builder.node("alpha", number)
        builder.engine("alpha", f"n{number}.0")
    for unit in builder.plan.units:
        assert isinstance(unit, PerfUnit)
        place = unit.place or 0
        factor = (slower if place == 2 else 1.0) * rng.gauss(1, 0.01) / (1.0, 1.01, 0.99)[unit.repeat % 3]

        def timed(_: PerfUnit, result: PerfMeasurement, factor: float = factor) -> PerfMeasurement:
            seen = result.measured
            fields = ("latency_s", "first_ttft_s", "median_ttft_s", "last_ttft_s", "last_token_s", "first_end_s")
            whole = seen.model_copy(update={name: (getattr(seen, name) or 0.0) * factor for name in fields})
            return result.model_copy(update={"measured": whole, "warm_up": (whole, whole)})

        if place not in absent:
            builder.perf_done(unit, f"n{place}.0", timed)
    builder.end()
    return builder


def test_every_node_does_the_same_work() -> None:
    units = [unit for unit in expand(settings(), {}).units if isinstance(unit, PerfUnit)]
    assert len(units) == len({unit.key for unit in units}) == 4 * 4 * 3
    of = {place: [u for u in units if u.place == place] for place in range(4)}
    assert all(len(mine) == 12 for mine in of.values())
    work = [[(u.load, u.order, u.prompt_seed) for u in mine] for mine in of.values()]
    assert work[0] == work[1] == work[2] == work[3]
    assert {u.repeat for u in units} == set(range(16))
    shared = expand(settings(every_node=False), {}).units
    assert all(isinstance(u, PerfUnit) and u.place is None for u in shared) and len(shared) == 12


def test_a_slow_node_is_named() -> None:
    report = make_report(fleet(1.08).view())
    found = [finding for finding in report.findings if finding.code == "slow_node"]
    assert len(found) == 1
    assert found[0].advice.startswith("n2 is slow. Compare its clocks")
    assert abs(found[0].evidence["slower_fraction"] - 0.08) < 0.01
    assert found[0].evidence["num_passes"] == 12
    assert "no node may take longer than the mean of the others" in found[0].rule
    assert report.verdict == "VALID", "a warning, not a fault of the figures"
    page = render(report)
    assert "## Fleet acceptance" in page
    rows = [line for line in page.splitlines() if line.startswith("| n")]
    assert rows[0].startswith("| n2 ") and "**slow**" in rows[0]
    assert sum("**slow**" in row for row in rows) == 1
    assert "FLEET alpha every: 4 nodes, slow: n2" in terminal_text(report, 200)


def test_a_fleet_that_is_well_is_silent_and_says_what_it_could_have_seen() -> None:
    report = make_report(fleet().view())
    assert not acceptance_findings(fleet().view())
    page = render(report)
    assert "4 nodes, no node is slower than noise explains. The smallest slowness that could have been seen: " in page
    ranking = report.acceptances[0].ranking
    assert ranking is not None
    assert f"{ranking.smallest_fraction:.1%} in 80% of fleets, {ranking.sure_fraction:.1%} in 95%" in page
    assert 0.03 < ranking.smallest_fraction < ranking.sure_fraction < 0.08


def test_two_nodes_cannot_say_which_is_at_fault() -> None:
    builder = fleet(1.0, settings(2))
    assert not acceptance_findings(builder.view())
    slow = fleet(1.2, settings(3), absent=(1,))
    advice = [finding.advice for finding in acceptance_findings(slow.view())]
    assert len(advice) == 1 and "Of two nodes nobody can say whether one is slow or the other quick" in advice[0]
    assert "1 of 3 nodes were not measured" in render(make_report(slow.view()))


def test_one_node_alone_and_sweeps_that_nodes_share_are_not_ranked() -> None:
    alone = make_report(fleet(1.0, settings(1)).view())
    assert "Nothing to compare: it takes two nodes" in render(alone)
    shared = LedgerBuilder(settings(every_node=False))
    shared.session()
    shared.planned()
    assert make_report(shared.view()).acceptances == ()
    assert "Fleet acceptance" not in render(make_report(shared.view()))
