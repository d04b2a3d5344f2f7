"""`configs/clusters/aws.yaml` through Ray's own AWS provider against a pretended AWS: what is started, and as what."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RESERVATION = "cr-0123456789abcdef0"

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The file with what a user fills in."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    text = (ROOT / "configs" / "clusters" / "aws.yaml").read_text()
    text = text.replace("cr-00000000000000000", RESERVATION).replace("ami-00000000000000000", "ami-12c6146b")
    return yaml.safe_load(text)


@pytest.mark.filterwarnings("ignore")  # boto3's and Ray's own, none of ours
def test_both_node_types_get_eight_gpus_of_their_type_and_the_reservation(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto = pytest.importorskip("moto")
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.commands import _bootstrap_config
    from ray.autoscaler._private.providers import _get_node_provider
    from ray.autoscaler._private.util import prepare_config, validate_config

    monkeypatch.setenv("HOME", str(tmp_path))
    # What Ray itself fills in for the machines, with nothing of ours in the file.
    bare = copy.deepcopy(settings)
    for node_type in bare["available_node_types"].values():
        node_type["resources"] = {}
    with moto.mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        import boto3

        filled = AWSNodeProvider.fillout_available_node_types_resources(prepare_config(bare))["available_node_types"]
        declared = prepare_config(copy.deepcopy(settings))
        validate_config(declared)
        ready = _bootstrap_config(declared, no_config_cache=True)
        provider = _get_node_provider(ready["provider"], ready["cluster_name"])
        asked: list[dict[str, Any]] = []
        create = provider.ec2_fail_fast.create_instances

        def recorded(**words: Any) -> Any:
            asked.append(words)
            return create(**words)

        monkeypatch.setattr(provider.ec2_fail_fast, "create_instances", recorded)
        for name in ("h200", "b200"):
            node_config = ready["available_node_types"][name]["node_config"]
            provider.create_node(node_config, {"ray-node-type": "worker", "ray-user-node-type": name}, 1)
        client = boto3.client("ec2", region_name=settings["provider"]["region"])
        started = [
            instance["InstanceType"]
            for reservation in client.describe_instances()["Reservations"]
            for instance in reservation["Instances"]
        ]
    assert started == ["p5en.48xlarge", "p6-b200.48xlarge"]
    for name, accelerator in (("h200", "H200"), ("b200", "B200")):
        by_ray = filled[name]["resources"]
        ours = ready["available_node_types"][name]["resources"]
        assert (by_ray["GPU"], by_ray["CPU"]) == (ours["GPU"], ours["CPU"]) == (8, 192)
        assert {key for key in by_ray if key.startswith("accelerator_type:")} == {f"accelerator_type:{accelerator}"}
        assert ours[f"accelerator_type:{accelerator}"] == 1
        assert ready["available_node_types"][name]["labels"] == {"ray.io/accelerator-type": accelerator}
    # The pretended AWS forgets reservations; what was asked for is what counts.
    for call in asked:
        assert call["InstanceMarketOptions"] == {"MarketType": "capacity-block"}
        target = call["CapacityReservationSpecification"]["CapacityReservationTarget"]
        assert target == {"CapacityReservationId": RESERVATION}
        assert re.fullmatch(r"subnet-\w+", call.get("SubnetId") or call["NetworkInterfaces"][0]["SubnetId"])
    assert len(asked) == 2
