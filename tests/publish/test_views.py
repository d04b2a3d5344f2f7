"""Workspace and report as code: their specifications as golden files, and W&B's own client reading them back.

After a wanted change: `RAYBENCH_GOLDEN=write pytest tests/publish/test_views.py`, then read the difference.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_builder import config, whole_ledger
from publishers import access
from simulated_study import simulated_study, source_of
from wandb_service import WandbService, serving

from raybench.config.publish import WandbConfig
from raybench.publish import view_text, views
from raybench.publish.comparison import Compared, compare
from raybench.publish.content import RunContent
from raybench.publish.state import Published
from raybench.publish.targets import Source, target_runs
from raybench.publish.view_store import show, spec_of

GOLDEN = Path(__file__).parent / "golden"
Content = tuple[Compared, tuple[RunContent, ...]]
VARIABLES = ("WANDB_BASE_URL", "WANDB_API_KEY", "WANDB_MODE", "WANDB_ENTITY")


def _content(sources: list[Source]) -> Content:
    runs = tuple(run for source in sources for run in target_runs(source, "hashed"))
    return compare(sources, "hashed", "2026-01-01"), runs


@pytest.fixture(scope="module")
def study() -> Content:
    return _content([source_of(simulated_study())])


def _steady(spec: str) -> str:
    """Without what W&B's library draws anew each time."""
    return re.sub(r'("(?:__id__|id)": )"[a-z0-9]{8,12}"', r'\1"drawn"', spec) + "\n"


@pytest.mark.parametrize("name", ["workspace", "report"])
def test_the_specification_is_the_golden_one(study: Content, name: str) -> None:
    compared, runs = study
    made = (
        views.workspace(compared, runs, "team", "raybench")
        if name == "workspace"
        else views.report(compared, runs, "team", "raybench")
    )
    path = GOLDEN / f"{name}.json"
    if os.environ.get("RAYBENCH_GOLDEN") == "write":
        path.write_text(_steady(spec_of(made)))
    assert _steady(spec_of(made)) == path.read_text()


def test_the_workspace_holds_what_people_open_first(
    study: Content,
) -> None:
    compared, runs = study
    spec = json.loads(spec_of(views.workspace(compared, runs, "team", "raybench")))
    sections = spec["section"]["panelBankConfig"]["sections"]
    names = [section["name"] for section in sections]
    assert [name for name in names if name != "Hidden Panels"] == [
        "Performance", "Accuracy", "Start-up", "Energy", "Compare",
    ]  # fmt: skip
    text = json.dumps(spec)
    assert f'"{compared.arms[0].run_id}"' in text, "the baseline run"
    assert compared.group in text, "runs are chosen by their group"
    plots = [
        panel for section in sections for panel in section["panels"] if panel["viewType"] == "Run History Line Plot"
    ]
    assert plots
    assert all(plot["config"]["xAxis"] for plot in plots), "every line plot names its x"


def test_what_is_wrong_stands_above_every_number(study: Content) -> None:
    compared, runs = study
    blocks = json.loads(spec_of(views.report(compared, runs, "team", "raybench")))["blocks"]
    texts = [json.dumps(block) for block in blocks]
    places = [next(n for n, text in enumerate(texts) if word in text) for word in ("SIMULATED", "output_tok_s |")]
    assert places == sorted(places)
    failed = whole_ledger(
        config(evals=[{"name": "sums", "sampling": {"temperature": 0, "max_tokens": 64}, "block_size": 20,
                       "baseline": 1.0, "gate": "published", "margin": 0.01}]),
        sample=lambda s: s.model_copy(update={"reply": "Answer: 0"}) if int(s.question[1:]) % 2 else s,
    )  # fmt: skip
    lines = view_text.summary(_content([source_of(failed)])[0]).split("\n\n")
    assert [line.split(":")[0] for line in lines[1:3]] == ["**FAIL** · sums on alpha", "**FAIL** · sums on beta"]


def test_any_number_of_targets_and_runs_of_other_dates() -> None:
    names = [f"t{number}" for number in range(7)]
    many = whole_ledger(config(targets=[{"name": name, "accelerator": "H200", "gpus_per_node": 8} for name in names]))
    other = whole_ledger()
    other.records[0] = other.records[0].model_copy(update={"body": other.records[0].body | {"run_id": "study-2"}})
    for sources, num_arms in (([source_of(many)], 7), ([source_of(whole_ledger()), source_of(other)], 4)):
        compared, runs = _content(sources)
        assert len(compared.arms) == num_arms
        assert len({arm.label for arm in compared.arms}) == num_arms
        spec = spec_of(views.workspace(compared, runs, "team", "raybench"))
        assert all(arm.group in spec and arm.run_id in spec for arm in compared.arms)
        assert spec_of(views.report(compared, runs, "team", "raybench"))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbService]:
    import wandb

    with serving() as made:
        for name, value in access(made).items():
            monkeypatch.setenv(name, value)
        for what in ("DIR", "CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
            monkeypatch.setenv(f"WANDB_{what}", str(tmp_path))
        monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
        yield made
        wandb.teardown()


ONLINE = WandbConfig(mode="online", entity="team")


def test_saved_updated_in_place_and_loaded_again(study: Content, service: WandbService, tmp_path: Path) -> None:
    compared, runs = study
    first = show(compared, runs, ONLINE, tmp_path, Published())
    assert first.views_error is None
    assert first.report_url is not None and first.workspace_url is not None
    assert "SIMULATED" in next(view["spec"] for view in service.views.values() if view["type"] == "runs")
    changed, _ = _content([source_of(whole_ledger())])
    second = show(changed, runs, ONLINE, tmp_path, first)
    assert second.views_error is None
    assert (second.report_url, second.workspace_url) == (_moved(first.report_url, changed), first.workspace_url)
    assert sorted(view["type"] for view in service.views.values()) == ["project-view", "runs"]
    page = next(view for view in service.views.values() if view["type"] == "runs")
    assert page["displayName"] == changed.title
    assert "SIMULATED" not in page["spec"]
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    loaded = wr.Report.from_url(second.report_url)
    assert [type(block).__name__ for block in loaded.blocks].count("PanelGrid") == 5
    space = ws.Workspace.from_url(second.workspace_url)
    assert space.runset_settings.baseline_run == changed.arms[0].run_id
    assert service.unknown == []


def _views(service: WandbService) -> list[tuple[str, str]]:
    """(kind, project) of every view there."""
    return sorted((str(view["type"]), str(view["projectName"])) for view in service.views.values())


def test_every_project_has_views_of_its_own(study: Content, service: WandbService, tmp_path: Path) -> None:
    compared, runs = study
    made: dict[str, Published] = {}
    known = Published()
    for project in ("first", "second", "first", "second"):
        settings = ONLINE.model_copy(update={"project": project})
        known = known.model_copy(update={"url": f"{service.base}/team/{project}"})
        known = show(compared, runs, settings, tmp_path, known)
        assert known.views_error is None
        before = made.setdefault(project, known)
        assert (known.report_url, known.workspace_url) == (before.report_url, before.workspace_url)
    assert _views(service) == [(kind, name) for kind in ("project-view", "runs") for name in ("first", "second")]


def test_views_that_were_saved_are_known_of_whatever_came_after(
    study: Content, service: WandbService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report refused after the workspace was made; then the publisher killed before it could answer."""
    from wandb_service import http

    compared, runs = study
    with monkeypatch.context() as patch:
        patch.delitem(http.OPERATIONS, "upsertView")
        first = show(compared, runs, ONLINE, tmp_path, Published())
    assert first.views_error is not None
    assert first.workspace_url is not None
    for _ in range(2):
        again = show(compared, runs, ONLINE, tmp_path, Published())
        assert again.views_error is None
        assert again.workspace_url == first.workspace_url
    assert [kind for kind, _ in _views(service)] == ["project-view", "runs"]


def test_views_that_somebody_deleted_are_made_anew(study: Content, service: WandbService, tmp_path: Path) -> None:
    compared, runs = study
    first = show(compared, runs, ONLINE, tmp_path, Published())
    service.views.clear()
    second = show(compared, runs, ONLINE, tmp_path, first)
    assert second.views_error is None
    assert [kind for kind, _ in _views(service)] == ["project-view", "runs"]
    assert second.report_url != first.report_url


def _moved(url: str, compared: Compared) -> str:
    """A report's address holds its title, and behind `--` what it is found by."""
    head, _, identity = url.rpartition("--")
    return f"{head.rpartition('/')[0]}/{compared.title.replace(' ', '-')}--{identity}"


def test_a_view_that_cannot_be_made_is_a_warning(
    study: Content, service: WandbService, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A client of another version asks for another operation: it stands in `unknown` by its name."""
    from wandb_service import http

    monkeypatch.delitem(http.OPERATIONS, "UpsertView2")
    compared, runs = study
    done = show(compared, runs, ONLINE, tmp_path, Published(rows=12))
    assert done.views_error is not None
    assert done.rows == 12
    assert service.unknown == ["UpsertView2"]
    assert (tmp_path / "wandb" / "workspace.json").is_file()
