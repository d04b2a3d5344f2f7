"""Lints a RayJob or RayCluster of KubeRay: what Kubernetes, which checks the shape, lets through. Pure."""

import re
import shlex
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import pairwise

from raybench.config.cluster_lint import (
    LABEL,
    MIN_SHM_GIB,
    examples,
    flag_and_value,
    image_lint,
    mount_lints,
    other_image_lint,
    outside,
)
from raybench.config.lint import Leaf, Lint
from raybench.config.source import Document

GPU = "nvidia.com/gpu"
GPUS_OF_A_NODE = 8
ALIKE = 0.75
"""From here on a key is taken for another one that is misspelt."""
_UNITS = {"Mi": 1 / 2**10, "Gi": 1.0, "Ti": 2.0**10}

JOB_KEYS = frozenset({
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionPolicy", "deletionStrategy", "entrypoint",
    "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata",
    "preRunningDeadlineSeconds", "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode",
    "submitterConfig", "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
})  # fmt: skip
CLUSTER_KEYS = frozenset({
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
    "headServiceAnnotations", "historyServerOptions", "managedBy", "networkPolicy", "rayVersion", "suspend",
    "tlsOptions", "upgradeStrategy", "workerGroupSpecs",
})  # fmt: skip
GROUP_KEYS = frozenset({
    "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "priority",
    "rayStartParams", "replicas", "resources", "scaleStrategy", "suspend", "template",
})  # fmt: skip
"""Fields of ray.io/v1 (ray-operator/apis/ray/v1 of KubeRay, 1.5 and the main branch after it)."""


def lint_kuberay(document: Document) -> tuple[Lint, ...]:
    """All that is wrong, in the order of the checks."""
    top = Leaf(document)
    job = top["kind"].text == "RayJob"
    cluster = top["spec"]["rayClusterSpec"] if job else top["spec"]
    groups = list(cluster["workerGroupSpecs"].entries())
    found = [*examples(top), *_keys(cluster, CLUSTER_KEYS)]
    if cluster.value is not None:
        found += _images([cluster["headGroupSpec"], *groups])
    if job:
        found += [*_keys(top["spec"], JOB_KEYS), *_job(top["spec"])]
    on_head = _container(cluster["headGroupSpec"])["resources"]["limits"][GPU]
    if not groups and not on_head.number and not top["spec"]["clusterSelector"].value:
        found.append(cluster["workerGroupSpecs"].lint(
            "no_workers", "error",
            "no worker groups: the cluster is a head without GPUs, and the job waits for ever. Add workerGroupSpecs.",
        ))  # fmt: skip
    for group in groups:
        found += _keys(group, GROUP_KEYS)
        for check in (_gpus, _accelerator, _memory_file_system, _mounts):
            found += check(group)
    return tuple(found)


def _keys(place: Leaf, known: frozenset[str]) -> Iterator[Lint]:
    """A misspelt key is an error; one that resembles none may be of a newer KubeRay."""
    for key, leaf in place.items():
        if key not in known:
            meant = get_close_matches(key, known, n=1, cutoff=ALIKE)
            yield leaf.lint(
                "unknown_key", "error" if meant else "warning",
                f"KubeRay knows no {key!r} here, and an operator may drop it silently. "
                + (f"Did you mean {meant[0]!r}?" if meant else "Remove it, or see that your KubeRay has it."),
            )  # fmt: skip


def _container(group: Leaf) -> Leaf:
    """Ray's container is the first one."""
    containers = group["template"]["spec"]["containers"]
    return next(containers.entries(), containers["0"])


def _images(groups: list[Leaf]) -> Iterator[Lint]:
    images = [_container(group)["image"] for group in groups]
    for image in images:
        yield from image_lint(image)
        yield from other_image_lint(image, images[0])


def _job(spec: Leaf) -> Iterator[Lint]:
    entrypoint = spec["entrypoint"]
    try:
        words = shlex.split(entrypoint.text)
    except ValueError:
        words = entrypoint.text.split()
    parts = [part for word in words for part in flag_and_value(word)]
    folder = next((after for flag, after in pairwise(parts) if flag in ("--out", "--resume")), "")
    if not folder.startswith("/") and "://" not in folder:
        yield entrypoint.lint(
            "out_relative", "error",
            "the run folder would vanish with the job. Give --out an absolute folder on a volume that stays.",
        )  # fmt: skip
    if not re.search(r"RAY_JOB_STOP_WAIT_TIME_S:\s*[\"']?\d", spec["runtimeEnvYAML"].text):
        yield spec["runtimeEnvYAML"].lint(
            "stop_grace", "warning",
            "a stopped driver has three seconds. Add env_vars: {RAY_JOB_STOP_WAIT_TIME_S: \"120\"}.",
        )  # fmt: skip
    if spec["shutdownAfterJobFinishes"].value is not True:
        yield spec["shutdownAfterJobFinishes"].lint(
            "cluster_stays", "warning", "the GPUs stay taken when the job has ended. Set it to true."
        )


def _gpus(group: Leaf) -> Iterator[Lint]:
    resources = _container(group)["resources"]
    limit, request = resources["limits"][GPU], resources["requests"][GPU]
    if limit.number != GPUS_OF_A_NODE:
        yield resources["limits"].lint(
            "gpu_count", "error",
            f"{GPU} is {'missing' if limit.number is None else f'{limit.number:g}'}: raybench owns whole machines. Set "
            f"it to {GPUS_OF_A_NODE}.",
        )  # fmt: skip
    if request.number is not None and request.number != limit.number:
        yield request.lint("gpu_count", "error", f"{GPU} must be the same in requests and limits.")


def _accelerator(group: Leaf) -> Iterator[Lint]:
    label = group["labels"][LABEL]
    resource = re.findall(r"accelerator_type:([A-Za-z0-9-]+)", group["rayStartParams"]["resources"].text)
    if not label.text:
        yield group["labels"].lint(
            "accelerator_label", "error", f"no label of the GPU's type. Add labels: {{{LABEL}: H200}} to the group."
        )
    if not resource:
        yield group["rayStartParams"].lint(
            "accelerator_resource", "warning",
            "no resource of the GPU's type: an autoscaler cannot know what this group brings. Add resources: "
            "'\"{\\\"accelerator_type:H200\\\": 1}\"'.",
        )  # fmt: skip
    if label.text and resource and resource != [label.text]:
        yield label.lint(
            "accelerator_differs", "error",
            f"{label.text} is the label, {', '.join(resource)} the resource. Correct one of them.",
        )  # fmt: skip


def _memory_file_system(group: Leaf) -> Iterator[Lint]:
    pod = group["template"]["spec"]
    names = {m["name"].text for m in _container(group)["volumeMounts"].entries() if m["mountPath"].text == "/dev/shm"}
    sizes = [
        _gib(volume["emptyDir"]["sizeLimit"].text)
        for volume in pod["volumes"].entries()
        if volume["name"].text in names and volume["emptyDir"]["medium"].text == "Memory"
    ]
    if not sizes or (sizes[0] is not None and sizes[0] < MIN_SHM_GIB):
        yield pod["volumes"].lint(
            "shm_small", "error",
            f"/dev/shm has 64 MiB, or less than {MIN_SHM_GIB} GiB: NCCL and SGLang's processes talk through it. Mount "
            f"emptyDir: {{medium: Memory, sizeLimit: {MIN_SHM_GIB}Gi}} there.",
        )  # fmt: skip


def _mounts(group: Leaf) -> Iterator[Lint]:
    container = _container(group)
    env = {entry["name"].text: entry["value"].text for entry in container["env"].entries()}
    targets = [mount["mountPath"].text for mount in container["volumeMounts"].entries()]
    found = outside(targets, env)
    yield from mount_lints(container["volumeMounts"], found, found)


def _gib(text: str) -> float | None:
    """GiB of a quantity; None where no limit is written, which is half of the node's memory."""
    found = re.fullmatch(r"(\d+)(Mi|Gi|Ti)", text)
    return float(found[1]) * _UNITS[found[2]] if found else None
