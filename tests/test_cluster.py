"""`cluster.yaml`: Ray accepts it, and what Ray does not check holds too."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from raybench.config.read import load
from raybench.evals import presets_of
from raybench.plan.demands import Machine, assign, demands

ROOT = Path(__file__).parents[1]


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    validate_config(fillout_defaults(copy.deepcopy(cluster)))
    cluster["available_node_types"]["h200"]["lables"] = {}
    with pytest.raises(Exception, match="lables"):
        validate_config(fillout_defaults(cluster))


def test_ray_accepts_the_variant_for_own_hosts(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    lines = (ROOT / "cluster.yaml").read_text().split("# Hosts that you own", 1)[1].splitlines()
    variant = yaml.safe_load("\n".join(line[1:] for line in lines if line.startswith("#   ")))
    for key in ("available_node_types", "head_node_type", "max_workers", "provider", "auth"):
        del cluster[key]
    prepared = prepare_config(cluster | variant)
    validate_config(prepared)
    assert prepared["max_workers"] == 2


def test_every_gpu_node_declares_its_accelerator_as_resource_and_as_label(cluster: dict[str, Any]) -> None:
    gpu_types = {k: v for k, v in cluster["available_node_types"].items() if v["resources"].get("GPU")}
    assert set(gpu_types) == {"h200", "b200"}
    for node_type in gpu_types.values():
        accelerator = node_type["labels"]["ray.io/accelerator-type"]
        assert node_type["resources"] == {"CPU": 192, "GPU": 8, f"accelerator_type:{accelerator}": 1}
        assert node_type["min_workers"] == node_type["max_workers"]
    assert sum(t["max_workers"] for t in gpu_types.values()) == cluster["max_workers"]
    assert not cluster["docker"]["image"].endswith(("latest", "sglang"))


def test_it_can_hold_the_real_study(cluster: dict[str, Any]) -> None:
    machines = [
        Machine(name, name, node["resources"]["CPU"], node["resources"].get("GPU", 0), _accelerators(node["resources"]))
        for name, node in cluster["available_node_types"].items()
    ]
    slots = assign(demands(load(ROOT / "configs" / "qwen3-235b-fp8.yaml", presets=presets_of)), machines)
    assert [(slot.machine, slot.num_gpus) for slot in slots] == [("h200", 8), ("b200", 8)]


def _accelerators(resources: dict[str, float]) -> tuple[str, ...]:
    return tuple(name.removeprefix("accelerator_type:") for name in resources if name.startswith("accelerator_type:"))
