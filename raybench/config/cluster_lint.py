"""Lints a `ray up` file: what Ray's own schema lets through, and what then costs an hour of eight GPUs. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from raybench.config.instances import INSTANCES, Instance
from raybench.config.lint import Leaf, Lint
from raybench.config.source import Document

LABEL = "ray.io/accelerator-type"
MIN_SHM_GIB = 32
MIN_IDLE_MINUTES = 15
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_EXAMPLE = re.compile(
    r"\b(192\.0\.2|198\.51\.100|203\.0\.113)\.\d+\b|\bami-0{8,}\b|\bcr-0{8,}\b|\bmy-(project|\w+-reservation|(docker|gpu)-image)\b"
    r"|\bexample\.(com|org)\b|\bzones/ZONE\b"
)
"""Addresses and names that are reserved for documentation, and ids that nobody has."""
_BARE = re.compile(r"(docker\.io/)?lmsysorg/sglang\b")
_BUILD = re.compile(r"\bdocker (?:buildx )?build\b[^|;&]*")
_TAG = re.compile(r"\s(?:-t|--tag)[ =]*[\"']?([^\s\"']+)")

CLOUDS = ("aws", "gcp")
_SIZES = {"": 1 / 2**30, "b": 1 / 2**30, "k": 1 / 2**20, "m": 1 / 2**10, "g": 1.0, "t": 2.0**10}


def lint_cluster(document: Document) -> tuple[Lint, ...]:
    """All that is wrong, in the order of the checks."""
    top = Leaf(document)
    found: list[Lint] = []
    for check in (examples, _image, _run_options, _mounts, _gpus_flag, _setup, _exposure, _sizes):
        found += check(top)
    for name, node_type in top["available_node_types"].items():
        head = name == top["head_node_type"].text
        for check_type in (_accelerator, _labels, _limits, _reservation):
            found += check_type(node_type, head)
    return tuple(found)


def examples(top: Leaf) -> Iterator[Lint]:
    """Values that only stand for the user's own."""
    for leaf in top.leaves():
        if found := _EXAMPLE.search(leaf.text):
            yield leaf.lint("example", "fill_in", f"{found[0]} is an example. Put your own in its place.")


def image_lint(image: Leaf) -> Iterator[Lint]:
    """An image that may be another one tomorrow."""
    last = image.text.rpartition("/")[2]
    tag = last.rpartition(":")[2] if ":" in last else ""
    if "@sha256:" not in image.text and tag in ("", "latest", "nightly", "dev"):
        yield image.lint(
            "image_not_pinned", "error",
            f"{image.text!r} names no version: nodes that are made on two days run two engines. Name one, as v0.5.21.",
        )  # fmt: skip


def other_image_lint(image: Leaf, first: Leaf) -> Iterator[Lint]:
    """An image that is not the first one of the cluster."""
    if image.text != first.text:
        yield image.lint(
            "images_differ", "error",
            f"{image.text} beside {first.text}: Ray wants the same Python and Ray on head and workers. Use one image.",
        )  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- docker


def _images(top: Leaf) -> list[Leaf]:
    docker = top["docker"]
    named = [docker[key] for key in ("image", "head_image", "worker_image")]
    named += [node_type["docker"][f"{kind}_image"] for _, node_type in top["available_node_types"].items()
              for kind in ("head", "worker")]  # fmt: skip
    return [image for image in named if image.text]


def _image(top: Leaf) -> Iterator[Lint]:
    images = _images(top)
    if not images:
        yield top["docker"].lint(
            "no_image", "warning",
            "no docker image is named: every machine must then hold the same Python, Ray, raybench and SGLang. Name an "
            "image, or see to that.",
        )  # fmt: skip
    for image in images:
        yield from image_lint(image)
        yield from _image_made(top, image)
    for image in images[1:]:
        yield from other_image_lint(image, images[0])


def _image_made(top: Leaf, image: Leaf) -> Iterator[Lint]:
    """An image that cannot hold Ray's launcher, or that is made on the hosts and does not reach the container."""
    if _BARE.match(image.text):
        yield image.lint(
            "no_rsync", "error",
            f"{image.text} has no rsync: `ray up` copies files into the container with one that runs inside of it. "
            "Build an image from it with rsync and openssh-client, as cluster.yaml does in initialization_commands.",
        )  # fmt: skip
    commands = top["initialization_commands"]
    builds = [build for text in commands.texts() for build in _BUILD.findall(text)]
    built = [tag for build in builds for tag in _TAG.findall(build)]
    if any("$" in tag for tag in built):
        return  # what it comes to is the host's to say
    if built and image.text not in built and "/" not in image.text:
        yield image.lint(
            "image_not_built", "error",
            f"initialization_commands build {', '.join(built)}, and {image.text} is in no registry. Name one image.",
        )  # fmt: skip
    if image.text in built and top["docker"]["pull_before_run"].value is not False:
        yield top["docker"]["pull_before_run"].lint(
            "image_pulled", "error",
            f"{image.text} is built on the hosts, and Ray would look for it in a registry. Set pull_before_run: false.",
        )  # fmt: skip


def _options(top: Leaf, *, workers: bool = True) -> list[str]:
    """Words of `docker run` on the workers or on the head, those that are given as one text taken apart."""
    docker = top["docker"]
    texts = docker["run_options"].texts() + docker["worker_run_options" if workers else "head_run_options"].texts()
    if workers:
        for _, node_type in top["available_node_types"].items():
            texts += node_type["docker"]["worker_run_options"].texts()
    return [part for text in texts for word in text.split() for part in flag_and_value(word)]


def flag_and_value(word: str) -> list[str]:
    """`--flag=value` in two words, anything else as it is."""
    return word.split("=", 1) if word.startswith("--") else [word]


def _after(words: list[str], *flags: str) -> list[str]:
    return [after for flag, after in pairwise(words) if flag in flags]


def _run_options(top: Leaf) -> Iterator[Lint]:
    if not _images(top):
        return
    words, place = _options(top), top["docker"]["run_options"]
    shm = [size for size in map(_gib, _after(words, "--shm-size")) if size is not None]
    if not shm or max(shm) < MIN_SHM_GIB:
        yield place.lint(
            "shm_small", "error",
            f"/dev/shm has {f'{max(shm):g} GiB' if shm else 'no size'}: NCCL and SGLang's processes talk through it. "
            f"Add --shm-size={MIN_SHM_GIB}g.",
        )  # fmt: skip
    limits = _after(words, "--ulimit")
    for name, wanted, why in (
        ("nofile", "1048576:1048576", "thousands of open requests run out of files"),
        ("memlock", "-1", "NCCL pins memory"),
    ):
        if not any(limit.startswith(name) for limit in limits):
            message = f"no limit is set for {name}: {why}. Add --ulimit={name}={wanted}."
            yield place.lint(f"ulimit_{name}", "warning", message)
    if not any(word.startswith("RAY_AUTH_MODE") for word in words) and not _commands_hold(top, "RAY_AUTH_MODE"):
        yield place.lint(
            "auth_mode", "warning",
            "RAY_AUTH_MODE is not set: Ray then asks for tokens as soon as a token file lies in a home folder. Add "
            "-e RAY_AUTH_MODE=disabled (ports closed to others), or set it to token on every machine.",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outside:
    """What a container finds outside of itself, and where it looks for models and puts temporary files."""

    targets: tuple[str, ...]
    """Folders that are mounted."""
    models: str
    temporary: str

    def holds(self, folder: str) -> bool:
        return any(held_by(target, folder) for target in self.targets)


def outside(targets: Iterable[str], env: Mapping[str, str]) -> Outside:
    """Of a container with these mounts and variables."""
    models = env.get("HF_HUB_CACHE") or env.get("HF_HOME") or "/root/.cache/huggingface"
    return Outside(tuple(target.rstrip("/") for target in targets), models, env.get("TMPDIR") or "/tmp")


def _mounts(top: Leaf) -> Iterator[Lint]:
    if not _images(top):
        return
    workers, head = (_outside(_options(top, workers=workers)) for workers in (True, False))
    yield from mount_lints(top["docker"]["run_options"], workers, head)


def _outside(words: list[str]) -> Outside:
    settings = [setting.partition("=") for setting in _after(words, "-e", "--env")]
    return outside(_targets(words), {name: value for name, _, value in settings})


def _targets(words: list[str]) -> list[str]:
    """Folders of a container that lie outside of it."""
    targets = [mount.split(":")[1] for mount in _after(words, "-v", "--volume") if mount.count(":") >= 1]
    keys = ("dst", "target", "destination")
    parts = [part.partition("=") for mount in _after(words, "--mount") for part in mount.split(",")]
    return targets + [folder for key, _, folder in parts if key in keys]


def mount_lints(place: Leaf, workers: Outside, head: Outside) -> Iterator[Lint]:
    """Folders in a container that must lie outside of it, models on the workers and run folders on the head."""
    if not workers.holds(workers.models):
        yield place.lint(
            "no_model_mount", "error",
            f"{workers.models} lies inside of the container: every new one fetches hundreds of gigabytes again. Mount "
            "a folder there.",
        )  # fmt: skip
    if missing := [side.temporary for side in (workers, head) if not side.holds(side.temporary)]:
        yield place.lint(
            "no_temporary_mount", "error",
            f"{missing[0]} lies inside of the container: Ray's session and spilled objects fill its overlay. Mount a "
            "folder there.",
        )  # fmt: skip
    # The driver runs on the head.
    if not [target for target in head.targets if not held_by(target, head.models)
            and not held_by(target, head.temporary) and not target.startswith(("/root/.cache", "/dev"))]:  # fmt: skip
        yield place.lint(
            "no_run_mount", "warning",
            "no folder for run folders is mounted: what was measured is lost with the head. Mount a shared file system "
            "and give it to --out.",
        )  # fmt: skip


def held_by(target: str, folder: str) -> bool:
    """True: the mount at `target` is there for `folder`."""
    return folder == target or folder.startswith(f"{target}/")


def _gpus_flag(top: Leaf) -> Iterator[Lint]:
    if not _images(top):
        return
    docker = top["docker"]
    if "--gpus" not in _options(top):
        yield docker["worker_run_options"].lint(
            "no_gpus_flag", "error", "the workers' containers get no GPU. Add --gpus=all to worker_run_options."
        )
    head = top["available_node_types"][top["head_node_type"].text]
    if "--gpus" in _options(top, workers=False) and head.value is not None and not head["resources"]["GPU"].number:
        yield docker["run_options"].lint(
            "gpus_on_head", "error",
            "--gpus stands in run_options, which are the head's too, and the head has none: docker refuses to start. "
            "Put it into worker_run_options.",
        )  # fmt: skip


def _gib(text: str) -> float | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([bkmgt]?)b?", text.lower())
    return float(found[1]) * _SIZES[found[2]] if found else None


# ------------------------------------------------------------------------------------------------------------ commands


_COMMANDS = (
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
    "head_start_ray_commands", "worker_start_ray_commands",
)  # fmt: skip


def _commands_hold(top: Leaf, words: str) -> bool:
    return any(words in command for name in _COMMANDS for command in top[name].texts())


def _setup(top: Leaf) -> Iterator[Lint]:
    place = top["setup_commands"]
    installs = [c for name in _COMMANDS for c in top[name].texts() if re.search(r"\b(pip|uv)\b.*\binstall\b", c)]
    if not any("raybench" in command for command in installs):
        yield place.lint(
            "raybench_missing", "warning",
            "no command installs raybench: unless the image holds the driver's version, nodes are refused. Add "
            'pip install "ray[default]==2.60.0" -e /root/raybench.',
        )  # fmt: skip
    for command in installs:
        if (found := re.search(r"\bray(\[[\w,]+\])?([\"'\s]|$|[<>~])", command)) and found[0][:4] != "rayb":
            yield place.lint(
                "ray_not_pinned", "error",
                "Ray is installed in whatever version is newest: driver and nodes of two versions are refused. Pin it "
                "(ray[default]==2.60.0).",
            )  # fmt: skip


def _exposure(top: Leaf) -> Iterator[Lint]:
    for entry in top["head_start_ray_commands"].entries():
        if re.search(r"--dashboard-host[= ](0\.0\.0\.0|::)", entry.text):
            yield entry.lint(
                "dashboard_exposed", "error",
                "the dashboard runs code for everybody who reaches it. Leave it at --dashboard-host=127.0.0.1 and "
                "forward it with `ray dashboard`.",
            )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- node types


def _sizes(top: Leaf) -> Iterator[Lint]:
    types = dict(top["available_node_types"].items())
    if not types:
        return
    idle = top["idle_timeout_minutes"]
    if idle.number is None or idle.number < MIN_IDLE_MINUTES:
        yield idle.lint(
            "idle_timeout_short", "warning",
            f"idle nodes are given back after {5 if idle.number is None else idle.number:g} minutes, and scarce ones "
            f"may not come again. Set it to {MIN_IDLE_MINUTES} or more.",
        )  # fmt: skip
    wanted = sum(t["max_workers"].number or 0 for name, t in types.items() if name != top["head_node_type"].text)
    most = top["max_workers"].number
    if wanted > (2 if most is None else most):
        yield top["max_workers"].lint(
            "max_workers_low", "error",
            f"the node types may have {wanted:g} workers together, the cluster {2 if most is None else most:g}: some "
            "targets would wait for ever. Raise it.",
        )  # fmt: skip


def _machine(node_type: Leaf) -> tuple[Leaf, Instance | None]:
    config = node_type["node_config"]
    named = config["InstanceType"] if config["InstanceType"].text else config["machineType"]
    return named, INSTANCES.get(named.text)


def _accelerator(node_type: Leaf, head: bool) -> Iterator[Lint]:
    """Resource, label and machine must say the same: autoscaler v1 places by resources, v2 by either."""
    named, instance = _machine(node_type)
    resources, label = node_type["resources"], node_type["labels"][LABEL]
    types = [key.partition(":")[2] for key, _ in resources.items() if key.startswith("accelerator_type:")]
    gpus = resources["GPU"].number
    if instance is None and not gpus and not types:
        return
    # Ray fills in what is missing on AWS, and on no other cloud.
    aws = instance is not None and instance.cloud == "aws"
    filled = aws and resources.value in (None, {})
    accelerator = instance.accelerator if instance else (types[0] if types else label.text or "H200")
    if not types and not filled:
        yield resources.lint(
            "accelerator_resource", "error",
            "GPUs without their type: autoscaler v1 would start the wrong machines. Add "
            f'"accelerator_type:{accelerator}": 1.',
        )  # fmt: skip
    if not label.text:
        yield node_type["labels"].lint(
            "accelerator_label", "warning", f"no label of the GPU's type. Add labels: {{{LABEL}: {accelerator}}}."
        )
    for said, place in [*((t, resources) for t in types), *([(label.text, label)] if label.text else [])]:
        if said != accelerator:
            yield place.lint(
                "accelerator_differs", "error",
                f"{said} is declared, but {named.text or 'the resource'} means {accelerator}. Correct one of them.",
            )  # fmt: skip
    if types and not gpus and not aws:
        yield resources.lint(
            "gpu_count", "error",
            f"accelerator_type:{types[0]} stands there without GPUs: nothing of ours would be placed there. Add GPU: "
            f"{8 if instance is None else instance.num_gpus}.",
        )  # fmt: skip
    elif instance is not None and gpus is not None and gpus != instance.num_gpus:
        yield resources["GPU"].lint(
            "gpu_count", "error", f"{gpus:g} GPUs are declared, {named.text} has {instance.num_gpus}. Correct it."
        )
    if gpus and not head and node_type["min_workers"].number != node_type["max_workers"].number:
        yield node_type["min_workers"].lint(
            "workers_elastic", "warning",
            "min_workers and max_workers differ: nodes come only when something asks for them. Use --wait-for-nodes-s, "
            "or make both the size of your reservation.",
        )  # fmt: skip


def _labels(node_type: Leaf, head: bool) -> Iterator[Lint]:  # noqa: ARG001 - the shape of a check
    for _, label in node_type["labels"].items():
        if not _LABEL_VALUE.fullmatch(label.text):
            yield label.lint(
                "label_syntax", "error",
                f"{label.value!r} is no value of a label: up to 63 letters, digits, dots, dashes and underscores.",
            )  # fmt: skip


def _limits(node_type: Leaf, head: bool) -> Iterator[Lint]:
    if head and node_type["max_workers"].number != 0:
        yield node_type["max_workers"].lint(
            "head_type_as_worker", "warning",
            "workers of the head's type may be started, and nothing of ours needs them. Set max_workers: 0.",
        )  # fmt: skip


def _reservation(node_type: Leaf, head: bool) -> Iterator[Lint]:  # noqa: ARG001 - the shape of a check
    config = node_type["node_config"]
    _, instance = _machine(node_type)
    reserved = config["CapacityReservationSpecification"]["CapacityReservationTarget"]["CapacityReservationId"]
    if config["InstanceMarketOptions"]["MarketType"].text == "capacity-block" and not reserved.text:
        yield config["InstanceMarketOptions"].lint(
            "no_reservation", "error",
            "a capacity block needs the id of its reservation (CapacityReservationSpecification).",
        )  # fmt: skip
    if instance is not None and instance.cloud == "gcp":
        yield from _scheduling(config["scheduling"])
    if instance is not None and instance.only_hyperdisk:
        for disk in config["disks"].entries():
            kind = disk["initializeParams"]["diskType"]
            if disk["boot"].value is True and not disk["source"].text and "/hyperdisk-" not in kind.text:
                yield kind.lint(
                    "boot_disk", "error",
                    f"{config['machineType'].text} boots from Hyperdisk alone, and this disk is another kind. Set "
                    "diskType: zones/ZONE/diskTypes/hyperdisk-balanced.",
                )  # fmt: skip


def _scheduling(scheduling: Leaf) -> Iterator[Lint]:
    entries = list(scheduling.entries())
    if entries:
        yield scheduling.lint(
            "scheduling_shape", "warning",
            "Google's API has one mapping here, and Ray hands on what stands here; Ray's examples write a list "
            "(ray#46248). Write scheduling: {onHostMaintenance: TERMINATE}.",
        )  # fmt: skip
    if "TERMINATE" not in [part["onHostMaintenance"].text for part in (scheduling, *entries)]:
        yield scheduling.lint(
            "host_maintenance", "error",
            "machines with GPUs cannot be moved: Google refuses them without scheduling: {onHostMaintenance: "
            "TERMINATE}.",
        )  # fmt: skip
