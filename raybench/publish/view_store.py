# pyright: reportPrivateImportUsage=false
"""Writes the views' specifications to the run folder, and makes or updates them in W&B by their stored address.

`_to_model` and the ids that `from_url` fills are private to wandb-workspaces: they are touched in this module only, and
the package is pinned to a minor version.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from pydantic import BaseModel

from raybench.config.publish import WandbConfig
from raybench.publish import views
from raybench.publish.comparison import Compared
from raybench.publish.content import RunContent
from raybench.publish.state import WANDB_FOLDER, Published
from raybench.report.model import ArgRow

WORKSPACE = "workspace.json"
REPORT = "report.json"
NOBODY = "your-entity"
"""Stands for the entity in specifications that are written without an account."""
ERROR_CHARS = 300


def show(
    compared: Compared, runs: Sequence[RunContent], arguments: Iterable[ArgRow], settings: WandbConfig, folder: Path,
    known: Published,
) -> Published:  # fmt: skip
    """Write the specifications; online, make the views or bring those of `known` up to date. Never raises.

    Returns `known` with the addresses of the views, or with the reason why there are none.
    """
    entity = known.entity or settings.entity or NOBODY
    try:
        space = views.workspace(compared, runs, entity, settings.project)
        page = views.report(compared, runs, arguments, entity, settings.project)
        write_specs(folder / WANDB_FOLDER, space, page)
        if settings.mode != "online" or not settings.views:
            return known
        return known.model_copy(
            update={
                "workspace_url": _save_workspace(space, known.workspace_url),
                "report_url": _save_report(page, known.report_url),
            }
        )
    except Exception as error:  # noqa: BLE001  the results are there; a view is a convenience
        return known.model_copy(update={"views_error": f"{type(error).__name__}: {error}"[:ERROR_CHARS]})


def write_specs(folder: Path, space: ws.Workspace, page: wr.Report) -> None:
    """The two specifications as JSON, without network and account."""
    folder.mkdir(exist_ok=True)
    for name, view in ((WORKSPACE, space), (REPORT, page)):
        (folder / name).write_text(spec_of(view) + "\n", encoding="utf-8")


def spec_of(view: ws.Workspace | wr.Report) -> str:
    """A view as the service stores it."""
    spec: BaseModel = view._to_model().spec  # pyright: ignore[reportPrivateUsage]
    return spec.model_dump_json(by_alias=True, exclude_none=True, indent=1)


def _save_workspace(space: ws.Workspace, url: str | None) -> str:
    if url is not None:
        before = ws.Workspace.from_url(url)
        space._internal_name = before._internal_name  # pyright: ignore[reportPrivateUsage]
        space._internal_id = before._internal_id  # pyright: ignore[reportPrivateUsage]
    space.save()
    return str(space.url)


def _save_report(page: wr.Report, url: str | None) -> str:
    if url is not None:
        page.id = wr.Report.from_url(url).id
    page.save()
    return str(page.url)
