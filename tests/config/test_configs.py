"""Every configuration that is shipped must be readable, plannable and as large as it says."""

from pathlib import Path

import pytest

from raybench.config.read import load
from raybench.config.schema import engine_of
from raybench.evals import presets_of
from raybench.evals.rows import rows_of
from raybench.plan.demands import demands
from raybench.plan.expand import expand
from raybench.records import EvalUnit, LoadUnit, PerfUnit

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_the_configurations_are_found() -> None:
    assert {path.stem for path in CONFIGS} >= {
        "quickstart",
        "simulated-h200-b200",
        "h200-one-gpu",
        "h200-one-rank",
        "acceptance",
        "h200-eight-gpus",
        "qwen3-235b-fp8",
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_read_and_planned(path: Path) -> None:
    config = load(path, presets=presets_of)
    assert config.name == path.stem
    # Rows of the hub need a network; stand-ins have as many questions.
    sets = [f"evals.{i}.rows=synthetic" for i, e in enumerate(config.evals) if e.rows == "default"]
    offline = load(path, sets, presets_of)
    plan = expand(offline, rows_of(offline.evals))
    assert len({unit.key for unit in plan.units}) == len(plan.units)
    for target in config.targets:
        assert engine_of(config, target).args.get("trust-remote-code", True) is True
        perf = [u for u in plan.units if isinstance(u, PerfUnit) and u.target == target.name]
        samples = [s for u in plan.units if isinstance(u, EvalUnit) and u.target == target.name for s in u.samples]
        assert len(perf) == sum(
            len(s.batch_sizes) * s.num_repeats(target.nodes) * s.launches for s in config.batch_sweeps
        )
        loads = [u for u in plan.units if isinstance(u, LoadUnit) and u.target == target.name]
        assert bool(loads) == bool(config.serving_sweeps)
        assert len({s.key for s in samples}) == len(samples)
        assert bool(samples) == bool(config.evals)


def test_the_real_study_asks_for_eight_gpus_of_each_kind_and_the_published_sampling() -> None:
    config = load(next(path for path in CONFIGS if path.stem == "qwen3-235b-fp8"), presets=presets_of)
    assert [(d.accelerator, d.nodes, d.gpus_per_node) for d in demands(config)] == [("H200", 1, 8), ("B200", 1, 8)]
    engine = engine_of(config, config.targets[0])
    assert {k: engine.args[k] for k in ("tp-size", "ep-size", "trust-remote-code")} == {
        "tp-size": 8,
        "ep-size": 2,
        "trust-remote-code": True,
    }
    assert engine.env["SGLANG_ENABLE_JIT_DEEPGEMM"] == "0"
    assert [e.baseline for e in config.evals] == [0.703, 0.775]
    for evaluation in config.evals:
        sampling = evaluation.sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.7, 0.8, 20, 16384)


def test_the_two_h200_configurations_differ_in_the_model_alone() -> None:
    gpu, rank = (load(path) for path in CONFIGS if path.stem.startswith("h200-one"))
    same = {"name": "x", "model": gpu.model}
    assert gpu.model_copy(update=same) == rank.model_copy(update=same)
    assert gpu.model != rank.model
