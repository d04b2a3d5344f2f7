"""How far a run is, for people: a line for a job's log, lines for `raybench status`, a table for a terminal. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from raybench.records import Finding
from raybench.report.progress import NodeStatus, RunStatus, WorkStatus
from raybench.report.words import groups

_COLOURS = {"lost": "red", "starting": "yellow", "idle": "dim", "ready": "dim"}
_FAULTS = ("suspect", "lost")
_HEAD_LINES = 3
"""A line about the run that names many lost nodes must leave room for the others."""
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


class LiveView:
    """The work and the nodes as they are now, for a terminal: never more lines than it has, whatever the fleet.

    Nodes beyond its height are counted by phase; those that are lost or do not answer are the last to be.
    """

    def __init__(self, status: RunStatus, num_taken: int = 0) -> None:
        """`num_taken`: lines of the terminal that others need."""
        self._status = status
        self._num_taken = num_taken

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich calls at every refresh, with the size that the terminal has now."""
        words = Text(progress_line(_without_nodes(self._status)), style="bold")
        head = list(words.wrap(console, options.max_width))[:_HEAD_LINES]
        yield from head
        nodes = self._status.nodes
        room = max(options.size.height - self._num_taken - len(head), 1)
        shown = nodes if len(nodes) <= room else _most_urgent(nodes, room - 1)
        if shown:
            yield _node_table(shown)
        if rest := Counter(node.phase for node in nodes) - Counter(node.phase for node in shown):
            phases = ", ".join(f"{num} {phase}" for phase, num in rest.most_common())
            more = "more nodes" if shown else "nodes"
            yield Text(f"{rest.total()} {more}: {phases}", style="dim", no_wrap=True, overflow="ellipsis")


def _most_urgent(nodes: Sequence[NodeStatus], num: int) -> list[NodeStatus]:
    """`num` nodes in their order; a node leaves its place to one that is lost or does not answer."""
    ranked = sorted(range(len(nodes)), key=lambda place: nodes[place].phase not in _FAULTS)
    return [nodes[place] for place in sorted(ranked[:num])]


def _node_table(nodes: Sequence[NodeStatus]) -> Table:
    """A line for every node: in a narrow terminal what it does is cut, not wrapped."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for is_cut in (False, False, False, True, False, False):
        table.add_column(no_wrap=not is_cut, overflow="ellipsis")
    for node in nodes:
        about = Text(node.about if len(node.about) <= 60 else node.about[:57] + "...", no_wrap=True)
        colour = _COLOURS.get(node.phase, "green")
        table.add_row(
            node.node, node.accelerator, Text(node.phase, style=colour), about, duration(node.since_s),
            f"{node.num_units_done} done",
        )  # fmt: skip
    return table


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
