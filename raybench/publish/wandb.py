"""The W&B sink: an offline run folder for each target, without account or network; online on request.

Written into the run folder and nowhere else: W&B's own configuration, cache and staging folders included. No host name,
path, command line, code, console or system statistics leave the machine.
"""

import shutil
from pathlib import Path

import wandb

from raybench.config.publish import WandbConfig
from raybench.publish.names import X_AXIS, WandbRun
from raybench.publish.state import WANDB_FOLDER

INIT_TIMEOUT_S = 15
FINISH_TIMEOUT_S = 60


def publish_run(run: WandbRun, settings: WandbConfig, folder: Path) -> int:
    """Publish one run; returns its number of history rows. Raises what W&B raises.

    An earlier offline folder of the same id is removed first: synced beside this one, it would double every row.
    """
    if settings.mode == "offline":
        for earlier in (folder / WANDB_FOLDER).glob(f"offline-run-*-{run.id}"):
            shutil.rmtree(earlier)
    live = wandb.init(
        project=settings.project, entity=settings.entity, id=run.id, name=run.name, group=run.group, job_type="bench",
        tags=run.tags, config=dict(run.config), mode=settings.mode, dir=str(folder), allow_val_change=True,
        resume="allow" if settings.mode == "online" else None, settings=_settings(),
    )  # fmt: skip
    live.define_metric(X_AXIS, summary="none")
    live.define_metric("perf/*", step_metric=X_AXIS, summary="none")
    start = live.starting_step
    for step, row in enumerate(run.history):
        if step >= start:
            live.log(row, step=step)
    live.summary.update(run.summary)
    live.finish()
    return len(run.history)


def close() -> None:
    """End W&B's service; only then are the files whole."""
    wandb.teardown()


def _settings() -> wandb.Settings:
    return wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        # Left alone these hold the script's path, the machine's name and the user's.
        program="raybench",
        host="raybench",
        username="raybench",
        init_timeout=INIT_TIMEOUT_S,
        finish_timeout=FINISH_TIMEOUT_S,
        finish_timeout_raises=True,
        reinit="create_new",
    )
