"""Where to publish: a flag comes before the environment, and that before the configuration. Pure."""

from collections.abc import Mapping

from pydantic import ValidationError

from raybench.config.publish import PublishConfig, SinkName, WandbConfig
from raybench.errors import PublishError
from raybench.records import Record

MODES = {"online": "online", "offline": "offline", "disabled": "disabled", "dryrun": "offline", "run": "online"}
"""Values of WANDB_MODE, W&B's older ones among them. `shared` is refused: its service loses early rows."""

ACCESS = ("WANDB_API_KEY",)
"""What W&B itself must find in the environment; everything else reaches it as a setting."""


class Flags(Record):
    """What the command line says; None = nothing."""

    sink: SinkName | None = None
    """This sink only."""
    mode: str | None = None
    """Mode of W&B."""
    project: str | None = None
    """Project of W&B."""
    entity: str | None = None
    """Team or user of W&B."""
    attempt: str = ""
    """Label that makes new run ids: the ids of runs that were deleted in W&B can never be used again."""


def settle(configured: PublishConfig, flags: Flags, environment: Mapping[str, str]) -> PublishConfig:
    """The settings that hold. Raises PublishError for a mode or name that cannot be."""
    mode = flags.mode or environment.get("WANDB_MODE") or None  # an empty variable says nothing
    if mode is not None and mode not in MODES:
        raise PublishError(f"W&B mode {mode!r} is not supported; use offline, online or disabled.")
    given = {
        "mode": MODES[mode] if mode else None,
        "project": flags.project or environment.get("WANDB_PROJECT"),
        "entity": flags.entity or environment.get("WANDB_ENTITY"),
        "base_url": environment.get("WANDB_BASE_URL"),
    }
    changes = {name: value for name, value in given.items() if value}
    try:
        wandb = WandbConfig.model_validate(configured.wandb.model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        raise PublishError(
            f"W&B {'.'.join(map(str, first['loc']))}: {first['msg']} (given: {first['input']!r})."
        ) from None
    sinks: tuple[SinkName, ...] = (flags.sink,) if flags.sink else configured.sinks
    return configured.model_copy(update={"wandb": wandb, "sinks": sinks})


def active(settings: PublishConfig) -> tuple[SinkName, ...]:
    """Sinks that are to be published to; W&B's mode `disabled` takes it out."""
    return tuple(name for name in settings.sinks if name != "wandb" or settings.wandb.mode != "disabled")
