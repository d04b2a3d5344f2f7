"""How far a run is, for people: a line for a job's log, lines for `raybench status`, a table for a terminal. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raybench.records import Finding
from raybench.report.progress import NodeStatus, RunStatus, WorkStatus
from raybench.report.words import groups

_COLOURS = {"lost": "red", "starting": "yellow", "idle": "dim", "ready": "dim"}
_QUIET_S = 300.0
"""Silence from which on it is worth a word: a perf unit at a large batch takes minutes, a dead driver says nothing."""


def progress_line(status: RunStatus) -> str:
    """Everything in one line, for a log."""
    words = [_units(status)]
    if status.samples_per_s is not None:
        words.append(f"{_rate(status.samples_per_s)} samples/s")
    if status.remaining_s is not None and status.phase == "running":
        words.append(f"about {duration(status.remaining_s)} left")
    words += [_node_words(node) for node in status.nodes if node.phase != "lost"]
    return "; ".join([*words, *_faults(status)])


def status_lines(status: RunStatus, findings: Iterable[Finding] = ()) -> list[str]:
    """A page of plain lines; `findings` are those of the run so far."""
    session = f"session {status.session + 1}, " if status.session else ""
    lines = [f"{status.name} ({status.run_id}): {status.phase}, {session}{duration(status.session_s)}"]
    if status.phase == "running" and status.quiet_s > _QUIET_S:
        lines.append(
            f"nothing was written for {duration(status.quiet_s)}: a long unit, or a driver that is gone (then --resume)"
        )
    lines.append(progress_line(_without_nodes(status)))
    lines += [f"  {_work_words(work)}" for work in status.work]
    if status.nodes:
        lines.append("nodes:")
        lines += [f"  {_node_row(node)}" for node in status.nodes]
    found = [group for group in groups(tuple(findings)) if group.mark != "NOTE"]
    lines.append("findings so far:" if found else "findings so far: none that is red or a warning")
    lines += [f"  {g.mark}: {g.title}: {g.about}{f' ({g.num} times)' if g.num > 1 else ''}" for g in found]
    return lines


def live_view(status: RunStatus) -> RenderableType:
    """Nodes and work as they are now, for a terminal."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for node in status.nodes:
        words = node.about if len(node.about) <= 60 else node.about[:57] + "..."
        colour = _COLOURS.get(node.phase, "green")
        table.add_row(
            node.node, node.accelerator, Text(node.phase, style=colour), Text(words), duration(node.since_s),
            f"{node.num_units_done} done",
        )  # fmt: skip
    return Group(Text(progress_line(_without_nodes(status)), style="bold"), table)


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _units(status: RunStatus) -> str:
    total = sum(work.num_units for work in status.work)
    words = f"{sum(work.num_units_done for work in status.work)}/{total} units"
    if samples := sum(work.num_samples for work in status.work):
        words += f", {sum(work.num_samples_done for work in status.work)}/{samples} samples"
    if dropped := sum(work.num_units_dropped for work in status.work):
        words += f" ({dropped} units dropped by rules)"
    return words


def _faults(status: RunStatus) -> list[str]:
    words = [f"{status.num_failed} failed attempt{'s' if status.num_failed > 1 else ''}"] if status.num_failed else []
    lost = [node.node for node in status.nodes if node.phase == "lost"]
    return [*words, f"lost {', '.join(lost)}"] if lost else words


def _work_words(work: WorkStatus) -> str:
    words = f"{work.target} {work.name}: {work.num_units_done}/{work.num_units} units"
    if work.num_samples:
        words += f", {work.num_samples_done}/{work.num_samples} samples"
    return f"{words}, {work.num_units_dropped} dropped" if work.num_units_dropped else words


def _node_words(node: NodeStatus) -> str:
    return f"{node.node} {node.phase}{f' {node.about}' if node.about else ''} {duration(node.since_s)}"


def _node_row(node: NodeStatus) -> str:
    done = f"{node.num_units_done} unit{'' if node.num_units_done == 1 else 's'} done"
    about = f" {node.about}" if node.about else ""
    return f"{node.node} {node.accelerator}: {node.phase}{about} for {duration(node.since_s)}, {done}"


def _without_nodes(status: RunStatus) -> RunStatus:
    """For a line above a list of nodes; the lost ones stay, they are a fault."""
    return replace(status, nodes=tuple(node for node in status.nodes if node.phase == "lost"))


def _rate(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"
