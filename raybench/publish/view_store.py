# pyright: reportPrivateImportUsage=false
"""Writes the views' specifications to the run folder, and makes or updates them in W&B by their stored address.

`_to_model` and the ids that `from_url` fills are private to wandb-workspaces: they are touched in this module only, and
the package is pinned to a minor version.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from pydantic import BaseModel

from raybench.config.publish import WandbConfig
from raybench.publish import views
from raybench.publish.addresses import Views, has_book, known_views, note_views
from raybench.publish.comparison import Compared
from raybench.publish.content import RunContent
from raybench.publish.state import WANDB_FOLDER, Published

WORKSPACE = "workspace.json"
REPORT = "report.json"
NOBODY = "your-entity"
"""Stands for the entity in specifications that are written without an account."""
ERROR_CHARS = 300
GONE = "not found in project"
"""In the library's words about a workspace that is not there."""
View = TypeVar("View", ws.Workspace, wr.Report)


def show(
    compared: Compared, runs: Sequence[RunContent], settings: WandbConfig, folder: Path, known: Published
) -> Published:
    """Write the specifications; online, make the views of this comparison or bring them up to date. Never raises.

    Returns `known` with the addresses of the views, or with the reason why there are none.
    """
    entity = known.entity or settings.entity or NOBODY
    try:
        space = views.workspace(compared, runs, entity, settings.project)
        page = views.report(compared, runs, entity, settings.project)
        write_specs(folder / WANDB_FOLDER, space, page)
        if settings.mode != "online" or not settings.views:
            return known
    except Exception as error:  # noqa: BLE001  the results are there; a view is a convenience
        return known.model_copy(update={"views_error": _words(error)})
    return _made(space, page, folder, compared.id, known)


def _made(space: ws.Workspace, page: wr.Report, folder: Path, compared_id: str, known: Published) -> Published:
    """Save both; what was made is known of, whatever happens to the other one."""
    where = known.url or ""
    # Folders of versions that kept no book: their addresses were of the only project and comparison.
    made = known_views(folder, where, compared_id) or _earlier(folder, known)
    error: str | None = None
    try:
        made = made.model_copy(update={"workspace_url": _save_workspace(space, made.workspace_url)})
        note_views(folder, where, compared_id, made)
        made = made.model_copy(update={"report_url": _save_report(page, made.report_url)})
        note_views(folder, where, compared_id, made)
    except Exception as reason:  # noqa: BLE001  the results are there; a view is a convenience
        error = _words(reason)
    return known.model_copy(update=made.model_dump() | {"views_error": error})


def _earlier(folder: Path, known: Published) -> Views:
    return Views() if has_book(folder) else Views(workspace_url=known.workspace_url, report_url=known.report_url)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:ERROR_CHARS]


def write_specs(folder: Path, space: ws.Workspace, page: wr.Report) -> None:
    """The two specifications as JSON, without network and account."""
    folder.mkdir(exist_ok=True)
    for name, view in ((WORKSPACE, space), (REPORT, page)):
        (folder / name).write_text(spec_of(view) + "\n", encoding="utf-8")


def spec_of(view: ws.Workspace | wr.Report) -> str:
    """A view as the service stores it."""
    spec: BaseModel = view._to_model().spec  # pyright: ignore[reportPrivateUsage]
    return spec.model_dump_json(by_alias=True, exclude_none=True, indent=1)


def _loaded(load: Callable[[str], View], url: str) -> View | None:
    """The view as it is now; None where the service answers and has it no more, because somebody deleted it."""
    try:
        return load(url)
    except TypeError:  # the library looks inside an answer that holds no report
        return None
    except ValueError as error:
        if GONE in str(error):
            return None
        raise


def _save_workspace(space: ws.Workspace, url: str | None) -> str:
    before = url and _loaded(ws.Workspace.from_url, url)
    if before:
        space._internal_name = before._internal_name  # pyright: ignore[reportPrivateUsage]
        space._internal_id = before._internal_id  # pyright: ignore[reportPrivateUsage]
    space.save()
    return str(space.url)


def _report_at(url: str) -> wr.Report:
    found = wr.Report.from_url(url)
    assert isinstance(found, wr.Report)  # the other kind comes on request only
    return found


def _save_report(page: wr.Report, url: str | None) -> str:
    before = url and _loaded(_report_at, url)
    if before:
        page.id = before.id
    page.save()
    return str(page.url)
