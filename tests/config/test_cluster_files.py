"""The cluster files: Ray accepts them, the lint finds nothing but values to fill in, and every lint finds its fault."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from raybench.config import cluster_lint, kuberay_lint
from raybench.config.cluster_lint import lint_cluster
from raybench.config.instances import INSTANCES
from raybench.config.kuberay_lint import lint_kuberay
from raybench.config.lint import Lint
from raybench.config.read import load
from raybench.config.source import parse
from raybench.driver.cluster_file import check_cluster_file, schema_complaint
from raybench.errors import ConfigError
from raybench.evals import presets_of
from raybench.plan.demands import Machine, assign, demands

ROOT = Path(__file__).parents[2]
FILES = {
    "own": ROOT / "cluster.yaml",
    "aws": ROOT / "configs" / "clusters" / "aws.yaml",
    "gcp": ROOT / "configs" / "clusters" / "gcp.yaml",
    "kuberay": ROOT / "configs" / "clusters" / "kuberay.yaml",
}
RAY_UP = ("own", "aws", "gcp")


def content(name: str) -> dict[str, Any]:
    return yaml.safe_load(FILES[name].read_text())


def lints(name: str, *changes: tuple[str, str]) -> list[Lint]:
    """Lints of a shipped file in which texts were replaced, without the values to fill in."""
    text = FILES[name].read_text()
    for old, new in changes:
        assert re.search(old, text, re.MULTILINE), f"{name} does not hold {old!r}"
        text = re.sub(old, new, text, flags=re.MULTILINE)
    check = lint_kuberay if name == "kuberay" else lint_cluster
    return [lint for lint in check(parse(text, "c.yaml")) if lint.severity != "fill_in"]


@pytest.mark.parametrize("name", FILES)
def test_a_shipped_file_lacks_nothing_but_the_users_own_values(name: str) -> None:
    found = check_cluster_file(FILES[name])
    assert {lint.severity for lint in found} == {"fill_in"}, [lint.words for lint in found]
    assert all(re.search(r"^.*\.yaml:\d+: [\w.-]+: ", lint.words) for lint in found)
    # Every one of them is marked for the reader of the file as well.
    text = FILES[name].read_text()
    assert text.count("CHANGE") > 1


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_accepts_it_and_refuses_a_misspelt_key(name: str) -> None:
    assert schema_complaint(content(name)) is None
    wrong = content(name)
    wrong["dokcer"] = wrong.pop("docker")
    assert "dokcer" in (schema_complaint(wrong) or "")


def test_all_ray_up_files_start_the_same_container() -> None:
    first, *others = (content(name) for name in RAY_UP)
    for other in others:
        for key in ("docker", "initialization_commands", "setup_commands", "head_start_ray_commands",
                    "worker_start_ray_commands", "file_mounts"):  # fmt: skip
            assert other[key] == first[key]


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_a_clouds_file_can_hold_the_real_study(name: str) -> None:
    types = content(name)["available_node_types"]
    machines = [
        Machine(key, key, node["resources"]["CPU"], node["resources"].get("GPU", 0), _accelerators(node["resources"]))
        for key, node in types.items()
    ]
    slots = assign(demands(load(ROOT / "configs" / "qwen3-235b-fp8.yaml", presets=presets_of)), machines)
    assert [(slot.machine, slot.num_gpus) for slot in slots] == [("h200", 8), ("b200", 8)]


def _accelerators(resources: dict[str, float]) -> tuple[str, ...]:
    return tuple(name.removeprefix("accelerator_type:") for name in resources if name.startswith("accelerator_type:"))


FAULTS = [
    ("own", "image_not_pinned", [("sglang:v0.5.21", "sglang:latest")], "'raybench-sglang:latest' names no version"),
    ("own", "image_not_pinned", [("sglang:v0.5.21", "sglang")], "names no version"),
    ("own", "no_image", [("  image: .*", "")], "no docker image is named"),
    ("own", "images_differ", [("  pull_before_run", "  head_image: rayproject/ray:2.60.0\n  pull_before_run")],
     "rayproject/ray:2.60.0 beside raybench-sglang:v0.5.21"),
    ("own", "no_rsync", [("image: raybench-sglang", "image: lmsysorg/sglang")], "lmsysorg/sglang:v0.5.21 has no rsync"),
    ("own", "no_rsync", [("image: raybench-sglang:", "image: docker.io/lmsysorg/sglang:")], "runs inside of it"),
    ("own", "image_not_built", [("image: raybench-sglang:v0.5.21", "image: raybench-sglang:v0.5.22")],
     "build raybench-sglang:v0.5.21, and raybench-sglang:v0.5.22 is in no registry"),
    ("own", "image_pulled", [("pull_before_run: false.*", "")], "Set pull_before_run: false"),
    ("own", "shm_small", [("--shm-size=32g", "--shm-size=8g")], "/dev/shm has 8 GiB"),
    ("own", "shm_small", [("--shm-size=32g", "--privileged")], "/dev/shm has no size"),
    ("own", "ulimit_nofile", [("nofile=", "core=")], "no limit is set for nofile"),
    ("own", "ulimit_memlock", [("memlock=", "core=")], "no limit is set for memlock"),
    ("own", "auth_mode", [("-e RAY_AUTH_MODE=disabled", "--init")], "RAY_AUTH_MODE is not set"),
    ("own", "no_model_mount", [(":/root/.cache/huggingface", ":/models")], "/root/.cache/huggingface lies inside"),
    ("own", "no_model_mount", [("-e RAY_AUTH_MODE=disabled", "-e RAY_AUTH_MODE=disabled\n    - -e HF_HOME=/models")],
     "/models lies inside"),
    ("own", "no_temporary_mount", [(":/tmp ", ":/temporary ")], "/tmp lies inside"),
    ("own", "no_model_mount", [(r"^    - -v /opt/raybench/huggingface:.*\n", ""),
     ("  worker_run_options", "  head_run_options: [-v /x:/root/.cache/huggingface]\n  worker_run_options")],
     "/root/.cache/huggingface lies inside"),
    ("own", "no_temporary_mount", [(r"^    - -v /opt/raybench/tmp:.*\n", ""),
     ("--gpus=all .*", "-v /opt/raybench/tmp:/tmp\n    - --gpus=all")], "/tmp lies inside"),
    ("kuberay", "out_relative", [("--out /shared/runs/first", "--out=first")], "would vanish with the job"),
    ("own", "no_run_mount", [(r"^    - -v /opt/raybench/shared:/shared.*$", "")], "no folder for run folders"),
    ("own", "no_gpus_flag", [("--gpus=all", "--init")], "get no GPU"),
    ("aws", "gpus_on_head", [("--cap-add=SYS_PTRACE", "--gpus all")], "the head has none"),
    ("own", "raybench_missing", [("-e /root/raybench", "")], "no command installs raybench"),
    ("own", "ray_not_pinned", [("==2.60.0", "")], "in whatever version is newest"),
    ("own", "ray_not_pinned", [("==2.60.0", ">=2.55")], "in whatever version is newest"),
    ("own", "dashboard_exposed", [("dashboard-host=127.0.0.1", "dashboard-host=0.0.0.0")], "runs code for everybody"),
    ("aws", "idle_timeout_short", [("idle_timeout_minutes: 60", "idle_timeout_minutes: 5")], "after 5 minutes"),
    ("aws", "idle_timeout_short", [("idle_timeout_minutes: 60", "")], "after 5 minutes"),
    ("aws", "max_workers_low", [("^max_workers: 2", "max_workers: 1")], "may have 2 workers together, the cluster 1"),
    ("aws", "accelerator_resource", [(', "accelerator_type:B200": 1', "")], 'Add "accelerator_type:B200": 1'),
    ("gcp", "accelerator_resource", [(r"resources: \{CPU: 224, GPU: 8, \"accelerator_type:H200\": 1\}", "")],
     'Add "accelerator_type:H200": 1'),
    ("aws", "accelerator_label", [(r"labels: \{ray.io/accelerator-type: H200\}", "labels: {}")],
     r"Add labels: \{ray.io/accelerator-type: H200\}"),
    ("aws", "accelerator_differs", [("accelerator-type: H200", "accelerator-type: B200")],
     "B200 is declared, but p5en.48xlarge means H200"),
    ("aws", "accelerator_differs", [("p6-b200.48xlarge", "p6-b300.48xlarge")],
     "B200 is declared, but p6-b300.48xlarge means B300"),
    ("gcp", "gpu_count", [("GPU: 8, \"accelerator_type:B200", "GPU: 4, \"accelerator_type:B200")],
     "4 GPUs are declared, a4-highgpu-8g has 8"),
    ("gcp", "gpu_count", [("GPU: 8, \"accelerator_type:B200", "\"accelerator_type:B200")],
     "accelerator_type:B200 stands there without GPUs"),
    ("gcp", "gpu_count", [("a4-highgpu-8g", "custom"), ("GPU: 8, \"accelerator_type:B200", "\"accelerator_type:B200")],
     "Add GPU: 8"),
    ("aws", "workers_elastic", [("min_workers: 1", "min_workers: 0")], "nodes come only when something asks"),
    ("aws", "label_syntax", [("accelerator-type: H200", 'accelerator-type: H200, pool: "rack 7"')],
     "'rack 7' is no value of a label"),
    ("aws", "head_type_as_worker", [("max_workers: 0", "max_workers: 2")], "workers of the head's type"),
    ("aws", "no_reservation", [("CapacityReservationId", "CapacityReservationResourceGroupArn")],
     "needs the id of its reservation"),
    ("gcp", "boot_disk", [("^ *diskType: .*", "")], "a3-ultragpu-8g boots from Hyperdisk alone"),
    ("gcp", "boot_disk", [("hyperdisk-balanced", "pd-ssd")], "a4-highgpu-8g boots from Hyperdisk alone"),
    ("gcp", "scheduling_shape", [("^        (?=(provisioningM|instanceT|onHostM))", "        - ")], "one mapping here"),
    ("gcp", "host_maintenance", [("onHostMaintenance: TERMINATE", "preemptible: false")], "Google refuses them"),
    ("kuberay", "image_not_pinned", [("sglang:v0.5.21", "sglang:latest")], "names no version"),
    ("kuberay", "images_differ", [(r"sglang:v0.5.21  .*", "sglang:v0.5.20")], "v0.5.21 beside .*v0.5.20"),
    ("kuberay", "out_relative", [("--out /shared/runs/first", "--out first")], "would vanish with the job"),
    ("kuberay", "stop_grace", [('RAY_JOB_STOP_WAIT_TIME_S: "120"', 'A: "1"')], "has three seconds"),
    ("kuberay", "cluster_stays", [("shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false")], "stay taken"),
    ("kuberay", "no_workers", [(r"^    workerGroupSpecs:\n(      .*\n)+", "")], "a head without GPUs"),
    ("kuberay", "no_workers", [(r"^    workerGroupSpecs:\n(      .*\n)+", "    workerGroupSpecs: []\n")],
     "no worker groups"),
    ("kuberay", "unknown_key", [("backoffLimit", "backofLimit")], "Did you mean 'backoffLimit'"),
    ("kuberay", "unknown_key", [("rayVersion", "rayVerison")], "no 'rayVerison' here"),
    ("kuberay", "unknown_key", [("maxReplicas", "maxReplica")], "Did you mean 'maxReplicas'"),
    ("kuberay", "unknown_key", [("rayVersion:", "novelty: 1\n    rayVersion:")], "or see that your KubeRay has it"),
    ("kuberay", "gpu_count", [('nvidia.com/gpu: "8"', 'nvidia.com/gpu: "4"')], "nvidia.com/gpu is 4"),
    ("kuberay", "gpu_count", [(r'512Gi, nvidia.com/gpu: "8"', '512Gi, nvidia.com/gpu: "4"')], "must be the same"),
    ("kuberay", "accelerator_label", [(r"labels: \{ray.io/accelerator-type: H200\}", "labels: {}")], "no label"),
    ("kuberay", "accelerator_resource", [(r"^ *resources: '.*$", "")], "no resource of the GPU's type"),
    ("kuberay", "accelerator_differs", [("accelerator-type: H200", "accelerator-type: B200")],
     "B200 is the label, H200 the resource"),
    ("kuberay", "shm_small", [("medium: Memory, sizeLimit: 32Gi", "medium: Memory, sizeLimit: 8Gi")], "/dev/shm has"),
    ("kuberay", "shm_small", [("medium: Memory, sizeLimit: 32Gi", "sizeLimit: 64Gi")], "/dev/shm has 64 MiB"),
    ("kuberay", "no_model_mount", [("mountPath: /root/.cache/huggingface", "mountPath: /models")], "lies inside"),
    ("kuberay", "no_temporary_mount", [("mountPath: /tmp", "mountPath: /temporary")], "/tmp lies inside"),
    ("kuberay", "no_run_mount", [("mountPath: /shared", "mountPath: /dev/shm/x")], "no folder for run folders"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code", "changes", "words"), FAULTS, ids=lambda v: v if isinstance(v, str) else "")
def test_a_fault_is_found_with_its_place_and_a_remedy(
    name: str, code: str, changes: list[tuple[str, str]], words: str
) -> None:
    found = lints(name, *changes)
    assert {lint.code for lint in found} == {code}, [lint.words for lint in found]
    assert any(re.search(words, lint.message) for lint in found), [lint.words for lint in found]
    assert all(re.match(r"c\.yaml:\d+: ", lint.words) and lint.words.endswith(f" [{code}]") for lint in found)


def test_every_code_has_a_fault_that_shows_it() -> None:
    sources = [Path(module.__file__ or "").read_text() for module in (cluster_lint, kuberay_lint)]
    codes = {code for source in sources for code in re.findall(r'\.lint\(\s*f?"(\w+)', source)}
    assert "ulimit_" in codes and len(codes) > 25
    assert codes - {"example", "ulimit_"} == {code for _, code, _, _ in FAULTS} - {"ulimit_nofile", "ulimit_memlock"}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("own", [("--shm-size=32g", "--shm-size 64gb"), ("--gpus=all", "--gpus all")]),
        ("own", [("sglang:v0.5.21", "sglang@sha256:" + "ab" * 32)]),
        # An image of one's own from a registry needs no building.
        (
            "own",
            [
                ("image: raybench-sglang", "image: registry.internal/sglang"),
                (": false .*", ": true"),
                (r"^  - >-\n    docker(.*\n){4}", ""),
            ],
        ),
        ("own", [("-v /opt/raybench/tmp:/tmp ", "--volume=/opt/raybench/tmp:/tmp ")]),
        ("own", [(r"-v (/opt/raybench/\w+):(\S+)", r"--mount type=bind,source=\1,target=\2")]),
        ("own", [(r"-v (/opt/raybench/\w+):(\S+)", r"--mount=type=bind,source=\1,destination=\2")]),
        # Models are the workers' alone, run folders the head's.
        (
            "own",
            [
                (r"^    - -v /opt/raybench/huggingface:.*\n", ""),
                ("--gpus=all .*", "-v /nvme/huggingface:/root/.cache/huggingface\n    - --gpus=all"),
            ],
        ),
        (
            "own",
            [
                (r"^    - -v /opt/raybench/shared:.*\n", ""),
                ("  worker_run_options", "  head_run_options: [-v /srv/shared:/shared]\n  worker_run_options"),
            ],
        ),
        # Ray fills in what AWS says about its machines.
        ("aws", [(r"resources: \{CPU: 192, GPU: 8, \"accelerator_type:H200\": 1\}", "resources: {}")]),
        ("aws", [("InstanceMarketOptions: .*", "")]),
        ("own", [("--gpus=all .*", "--gpus=all\n    - -e TMPDIR=/scratch\n    - -v /nvme:/scratch")]),
        ("own", [("raybench-sglang:v0.5.21", "my-sglang-image:v1")]),
        ("own", [("-t raybench-sglang:v0.5.21", '-t "raybench-sglang:v0.5.21"')]),
        ("own", [("-t raybench-sglang:v0.5.21", "-t other:v1 -t raybench-sglang:v0.5.21")]),
        ("own", [("-t raybench-sglang:v0.5.21", "-t raybench-sglang:$VERSION")]),
        ("kuberay", [("--out /shared/runs/first", "--out=/shared/runs/first")]),
        ("kuberay", [("  shutdownAfterJobFinishes", "  deletionPolicy: DeleteCluster\n  shutdownAfterJobFinishes")]),
        ("kuberay", [("--out /shared/runs/first", "--resume=s3://bucket/first")]),
    ],
)
def test_other_ways_to_say_the_same_are_taken(name: str, changes: list[tuple[str, str]]) -> None:
    assert [lint.words for lint in lints(name, *changes)] == []


def test_misspelt_worker_groups_are_two_errors_and_a_running_cluster_needs_none() -> None:
    found = lints("kuberay", ("workerGroupSpecs", "workerGroupSpec"))
    assert {(lint.code, lint.severity) for lint in found} == {("unknown_key", "error"), ("no_workers", "error")}
    selected = ("rayClusterSpec:\n(    .*\n)+", "clusterSelector: {ray.io/cluster: raybench}\n")
    assert lints("kuberay", selected) == []


def test_machines_without_gpus_need_no_type() -> None:
    plain = "  plain: {node_config: {InstanceType: m7i.large}, min_workers: 0, max_workers: 0}\n\nhead_node_type"
    assert lints("aws", ("\nhead_node_type", plain)) == []


def test_machines_that_boot_from_any_disk_need_no_hyperdisk() -> None:
    assert lints("gcp", ("a3-ultragpu-8g", "a3-highgpu-8g"), ("H200", "H100"), ("CPU: 224", "CPU: 208"),
                 ("a4-highgpu-8g", "a3-highgpu-8g"), ("B200", "H100"), ("^ *diskType: .*", "")) == []  # fmt: skip


@pytest.mark.parametrize("name", ["my-docker-image", "my-gpu-image", "my-h200-reservation", "zones/ZONE"])
def test_what_stands_for_a_name_of_google_is_named(name: str) -> None:
    text = FILES["gcp"].read_text().replace("my-project", "acme")
    assert any(lint.message.startswith(f"{name} is an example") for lint in lint_cluster(parse(text, "c.yaml")))


def test_example_values_of_any_file_are_named() -> None:
    text = FILES["aws"].read_text().replace("cr-00000000000000000", "cr-0123456789abcdef0").replace("ami-0", "ami-1")
    assert lint_cluster(parse(text, "c.yaml")) == ()
    text = text.replace("us-west-2a", "203.0.113.7")
    assert [lint.message for lint in lint_cluster(parse(text, "c.yaml"))] == [
        "203.0.113.7 is an example. Put your own in its place."
    ]


@pytest.mark.parametrize("text", ["provider: {type: local}\n", "provider: {type: aws}\ndocker: 3\n", "provider: {}\n"])
def test_a_hopeless_file_gets_rays_own_complaint_and_no_crash(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    first = check_cluster_file(path)[0]
    assert (first.code, first.severity) == ("schema", "error")
    assert first.message.startswith("Ray refuses it: ") and len(first.message) > 20


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "found none"), ("name: study\n", "found neither; .* `raybench plan"), ("a: [", "not valid")],
)
def test_what_is_no_cluster_file_is_one_message(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        check_cluster_file(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        check_cluster_file(tmp_path / "missing.yaml")


def test_the_table_knows_machines_of_both_clouds() -> None:
    assert {i.cloud for i in INSTANCES.values()} == {"aws", "gcp"}
    assert INSTANCES["p5en.48xlarge"].accelerator == INSTANCES["a3-ultragpu-8g"].accelerator == "H200"
    assert INSTANCES["p6-b200.48xlarge"].accelerator == INSTANCES["a4-highgpu-8g"].accelerator == "B200"


def test_the_command_says_what_to_do_and_ends_with_the_configurations_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from raybench.cli.doctor import doctor

    with pytest.raises(ConfigError, match="0 errors, 3 values to fill in, 0 warnings"):
        doctor(FILES["own"])
    assert capsys.readouterr().out.splitlines()[0].startswith("FILL IN ")
    ready = tmp_path / "ready.yaml"
    ready.write_text(FILES["own"].read_text().replace("192.0.2.", "10.1.2."))
    doctor(ready)
    assert capsys.readouterr().out == f"{ready}: fit for use, 0 warnings\n"
    ready.write_text(ready.read_text().replace("nofile=", "core="))
    doctor(ready)
    warning, last = capsys.readouterr().out.splitlines()
    assert warning.startswith("WARNING ") and last == f"{ready}: fit for use, 1 warning"


def test_a_head_that_holds_the_gpus_needs_no_workers() -> None:
    whole = content("kuberay")
    cluster = whole["spec"]["rayClusterSpec"]
    cluster["headGroupSpec"]["template"] = cluster.pop("workerGroupSpecs")[0]["template"]
    assert {lint.code for lint in lint_kuberay(parse(yaml.safe_dump(whole), "c.yaml"))} == {"example"}


def test_an_image_of_ones_own_is_no_example() -> None:
    text = FILES["own"].read_text().replace("raybench-sglang", "my-sglang-image")
    assert not any("my-sglang-image is" in lint.message for lint in lint_cluster(parse(text, "c.yaml")))
