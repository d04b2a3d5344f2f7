"""One run from plan to ledger: the asyncio loop around the dispatcher.

Invariant: whatever an event says is in the ledger before the dispatcher hears of it, so that a driver that is killed at
any point finds on `--resume` what it had acted on.
"""

import asyncio
import platform
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray

from raybench import __version__
from raybench.config.read import digest
from raybench.config.schema import RunConfig
from raybench.driver.aside import begin
from raybench.driver.chronicle import Chronicle
from raybench.driver.cluster import Cluster, check_versions, connect, disconnect, will_be_private
from raybench.driver.fleet import Fleet, FleetOrder, Occurrence
from raybench.driver.joining import JOIN_TIMEOUT_S, Cloud
from raybench.driver.machine import check_this_machine
from raybench.driver.resumed import same_plan
from raybench.driver.screen import Screen
from raybench.driver.store import Mirror
from raybench.driver.waiting import Surroundings, Wish, checked_slots
from raybench.driver.warm import end_warm
from raybench.errors import EXIT_SIGINT, EXIT_SIGTERM, ClusterError
from raybench.ledger.bodies import ESTIMATE, Decision, PlanBody, RunBody
from raybench.ledger.journal import Journal
from raybench.ledger.view import RunView, fold
from raybench.plan.demands import Slot, demands, num_cpu_slots
from raybench.plan.dispatch import Dispatcher
from raybench.plan.estimate import Known, estimate, expected_lengths, known_from
from raybench.plan.events import (
    Drain,
    Event,
    NodeLost,
    RunUnit,
    SampleDone,
    StartEngine,
    UnitDone,
    UnitFailed,
    UnitsAdded,
    UnitsDropped,
)
from raybench.plan.heartbeat import PING_EVERY_S, Heartbeats
from raybench.plan.keys import plan_digest
from raybench.plan.order import longest_first
from raybench.plan.searches import Searches
from raybench.plan.states import Stay
from raybench.plan.watch import Watch
from raybench.plan.watchdog import Watchdog
from raybench.records import (
    AnyUnit,
    CheckUnit,
    EvalUnit,
    Failure,
    LedgerRecord,
    LoadMeasurement,
    PerfMeasurement,
    Plan,
    SampleRecord,
    prompt_hash,
)
from raybench.validity.holding import looks

DRAIN_LIMIT_S = 20.0
"""Time that running units and starting engines have after a signal; then they are left to the end of their actors."""

LOOK_S = 5.0
"""Between two looks for units without progress and for machines that are to be taken away."""

LATE_JOIN_S = 3600.0
"""How long a node may still join a run that began with fewer; when all others are lost, it is waited for so long."""

SIGNAL_EXITS = {signal.SIGINT: EXIT_SIGINT, signal.SIGTERM: EXIT_SIGTERM}


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for."""

    config: RunConfig
    plan: Plan
    folder: Path
    run_id: str
    resume: bool
    address: str
    hold: bool
    command: tuple[str, ...]
    wait_s: float = 0.0
    """How long machines that are missing are waited for."""
    fewer: bool = False
    """True: begin as soon as every target has a machine, and let others join."""
    keep_warm_s: float | None = None
    """How long servers outlive a driver that ends before the run does; None: not at all."""
    earlier: tuple[RunView, ...] = ()
    """Ledgers of earlier runs, for the order of work and the estimate."""
    mirror: Mirror | None = None
    """Copies the folder to object storage, where the run is to lie there."""

    @property
    def stay(self) -> frozenset[Stay]:
        """When engines stay up."""
        asked: dict[Stay, bool] = {"idle": self.hold, "drained": self.keep_warm_s is not None}
        return frozenset(when for when, is_asked in asked.items() if is_asked)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the session ended, beside what the ledger says."""

    signal_exit: int | None
    """130 or 143 after a signal; None otherwise."""


def run(order: Order, screen_of: Callable[[int, int], Screen], say: Callable[[str], None]) -> Outcome:
    """Do what is missing of the plan. Raises ClusterError, LedgerError, StorageError, PlanError.

    `screen_of(num_units, num_done)` makes the screen, `say` prints a line before it is up.
    """
    journal, view, earlier = _open(order)
    try:
        searches = Searches(order.plan, view)
        added = tuple(unit for decision in view.decisions for unit in decision.added) if view else ()
        work = [*(unit for unit in order.plan.units if not isinstance(unit, CheckUnit)), *added]
        settled = view.done.keys() | view.dropped.keys() if view else set[str]()
        missing = [unit for unit in work if unit.key not in settled]
        if not missing and not searches.is_due and not order.hold:
            say("everything in the plan is done already")
            return Outcome(None)
        wanted = demands(order.config)
        if will_be_private(order.address):
            check_this_machine(order.config)
        cluster = connect(order.address, num_cpu_slots(wanted))
        wish = Wish(lambda _: None) if cluster.private else Wish()
        try:
            say(cluster.words)
            if order.keep_warm_s is not None and cluster.private:
                raise ClusterError(
                    "--keep-warm needs a cluster that outlives this command, and this one is private to it. Start one "
                    "(ray start --head), then run again with --address auto."
                )
            if order.keep_warm_s is None and order.resume:
                end_warm(order.run_id, say)
            world = Surroundings(request=wish.ask, check=(lambda _: ()) if cluster.private else check_versions)
            slots = checked_slots(wanted, order.wait_s, say, fewer=order.fewer, around=world)
            if journal is None:
                journal = Journal.create(order.folder)
            begun = _begin(journal, order, cluster, view)
            known = known_from([*order.earlier, *([view] if view else [])])
            units = longest_first((*order.plan.units, *added), expected_lengths(order.config, work, known))
            begun += _predict(journal, order, [unit for unit in units if unit.key not in settled], slots, known)
            fleet = Fleet(_fleet_order(order, view), slots, first_name(view), Cloud(request=wish.ask))
            dispatcher = Dispatcher(
                units, {i: slot.targets for i, slot in enumerate(slots)}, stay=order.stay,
                done=view.done if view else (), done_samples=view.samples if view else (),
                attempts=view.attempts if view else {},
            )  # fmt: skip
            dispatcher.handle(UnitsDropped(frozenset(view.dropped if view else ())))
            watch = Watch(order.config, order.plan, looks(order.config, order.plan), view)
            with screen_of(len(work), len(work) - len(missing)) as screen:
                chronicle = Chronicle(journal, screen, (*earlier, *begun), order.mirror)
                loop = _Loop(dispatcher, (watch, searches), fleet, chronicle)
                return asyncio.run(loop.run(len(slots), hold=order.hold))
        finally:
            wish.take_back()
            disconnect()
    finally:
        if journal is not None:
            journal.close()


def _open(order: Order) -> tuple[Journal | None, RunView | None, tuple[LedgerRecord, ...]]:
    """The journal and what it holds, folded and as it is.

    A new run's journal is made once the cluster is known to suffice.
    """
    if not order.resume:
        return None, None, ()
    journal, records = Journal.resume(order.folder)
    try:
        view = fold(records)
        same_plan(view, order.config, order.plan, order.folder)
        _close_open_attempts(journal, records)
    except BaseException:
        journal.close()
        raise
    return journal, view, records


def _close_open_attempts(journal: Journal, records: tuple[LedgerRecord, ...]) -> None:
    """End attempts that a killed driver left open, so that every (key, attempt) ends once."""
    started = {(r.key, r.attempt): r for r in records if r.kind == "unit_started"}
    for record in records:
        if record.kind in ("unit_done", "unit_failed"):
            started.pop((record.key, record.attempt), None)
    failure = Failure(cause="stopped", message="the driver ended while it ran")
    for (key, attempt), record in started.items():
        journal.append("unit_failed", failure, key=key, attempt=attempt, node=record.node, launch=record.launch)


def _begin(journal: Journal, order: Order, cluster: Cluster, view: RunView | None) -> list[LedgerRecord]:
    body = RunBody(
        run_id=order.run_id,
        session=0 if view is None else len(view.sessions),
        config=order.config,
        config_digest=digest(order.config),
        raybench_version=__version__,
        ray_version=ray.__version__,
        python_version=platform.python_version(),
        cluster=cluster.words,
        command=order.command,
    )
    written = [journal.append("run", body)]
    if view is None or view.plan is None:
        written.append(journal.append("plan", PlanBody(digest=plan_digest(order.plan), plan=order.plan)))
    return written


def _predict(
    journal: Journal, order: Order, units: list[AnyUnit], slots: Sequence[Slot], known: Known
) -> list[LedgerRecord]:
    """Write down how long every target is to take, for the report to hold against what came."""
    predicted = estimate(order.config, units, [slot.targets for slot in slots], known)
    return [
        journal.append("decision", Decision(
            what=ESTIMATE, target=one.target, reason="as planned, without faults", numbers=one.numbers
        ))
        for one in predicted.targets
    ]  # fmt: skip


def _fleet_order(order: Order, view: RunView | None) -> FleetOrder:
    measured = tuple(view.calibrations) if view else ()
    join_limit_s = max(order.wait_s, LATE_JOIN_S if order.fewer else JOIN_TIMEOUT_S)
    return FleetOrder(order.run_id, order.config, _answer_key(order.plan), measured, join_limit_s, order.keep_warm_s)


def first_name(view: RunView | None) -> int:
    """Number of the first node's name that no record of an earlier session has. Names can have gaps: a node that never
    joined had one too, so that their number says nothing."""
    return 1 + max((int(name.removeprefix("n")) for name in view.nodes), default=-1) if view else 0


def _answer_key(plan: Plan) -> Mapping[str, str]:
    return {
        prompt_hash(sample.messages): sample.gold
        for unit in plan.units
        if isinstance(unit, EvalUnit | CheckUnit)
        for sample in unit.samples
    }


def _now_s() -> float:
    return asyncio.get_running_loop().time()


class _Loop:
    """Occurrences in, ledger records and actions out, until the dispatcher has nothing left."""

    def __init__(
        self, dispatcher: Dispatcher, rules: tuple[Watch, Searches], fleet: Fleet, chronicle: Chronicle
    ) -> None:
        self._dispatcher = dispatcher
        self._watch, self._searches = rules
        self._fleet = fleet
        self._chronicle = chronicle
        self._screen = chronicle.screen
        self._watchdog = Watchdog()
        self._beats = Heartbeats(PING_EVERY_S, leased=fleet.leased)
        self._signal: int | None = None
        self._drain_ends_s: float | None = None
        """On the event loop's clock; None = nobody asked for an end."""
        self._released = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self, num_slots: int, *, hold: bool) -> Outcome:
        """Run to the end and stop everything; returns how it ended. `hold`: wait for a signal before the end."""
        loop, is_whole = asyncio.get_running_loop(), False
        for number in SIGNAL_EXITS:
            # After `connect`, which puts a handler in place that knows no drain.
            loop.add_signal_handler(number, self._interrupt, number)
        works = (self._chronicle.keep_showing(), self._keep_watching(), self._keep_asking())
        aside = begin(works, lambda error: self._fleet.occurrences.put_nowait(Occurrence(None, bug=error)))
        try:
            for decision in [*self._watch.due(), *self._searches.due()]:
                self._rule(decision)
            for slot in range(num_slots):
                self._fleet.make_node(slot)
            while not self._dispatcher.finished and (occurrence := await self._next()) is not None:
                self._take(occurrence)
            while not self._fleet.occurrences.empty():
                # Units that were given up last: nothing follows from them, but they are records.
                self._take(self._fleet.occurrences.get_nowait())
            if hold and self._signal is None:
                await self._wait_for_release()
            what = "interrupted" if self._signal else "end"
            counts = {name: float(number) for name, number in self._dispatcher.counts().items()}
            self._chronicle.append("decision", Decision(what=what, reason=f"exit {self._signal or 0}", numbers=counts))
            is_whole = self._signal is None
        finally:
            if not is_whole:
                for line in self._fleet.leave_warm():
                    self._screen.line(line)
            for task in aside:
                task.cancel()
            await self._close()
        return Outcome(self._signal)

    async def _keep_watching(self) -> None:
        """End what makes no progress, and look for machines that leave, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            for late in self._watchdog.overdue(_now_s()):
                self._screen.line(f"{late.node}: {late.key}: {late.reason}")
                self._fleet.end_unit(late)
            self._fleet.look_for_leaving()

    async def _keep_asking(self) -> None:
        """Ask all nodes for signs of life, and tell of those that give none, until it is cancelled."""

        def answered(node: str) -> None:
            if self._beats.answered(node):
                self._fleet.tell_well(node)

        while True:
            await asyncio.sleep(PING_EVERY_S)
            now_s = _now_s()
            for silence in self._beats.look(now_s):
                self._fleet.tell_silence(silence)
            self._fleet.ping(answered, partial(self._beats.asked, now_s=now_s))

    async def _next(self) -> Occurrence | None:
        """The next occurrence; None when the time to drain is over."""
        if self._drain_ends_s is None:
            return await self._fleet.occurrences.get()
        remaining_s = self._drain_ends_s - asyncio.get_running_loop().time()
        try:
            return await asyncio.wait_for(self._fleet.occurrences.get(), max(remaining_s, 0.0))
        except TimeoutError:
            return None

    async def _close(self) -> None:
        """End everything; a second signal ends the wait for it, and leaves the rest to the guardians."""
        closing = asyncio.ensure_future(self._fleet.close())
        hurried = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait([closing, hurried], return_when=asyncio.FIRST_COMPLETED)
        for task in (closing, hurried):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await closing

    def _take(self, occurrence: Occurrence) -> None:
        if occurrence.bug is not None:
            raise occurrence.bug
        event = occurrence.event
        if isinstance(event, UnitDone | UnitFailed) and not self._dispatcher.is_current(
            event.node, event.key, event.attempt
        ):
            return
        if isinstance(event, SampleDone) and not self._dispatcher.needs_sample(event.key):
            return
        self._write(occurrence)
        if occurrence.line:
            self._screen.line(occurrence.line)
        if event is None:
            self._watchdog.moved(occurrence.node or "", occurrence.unit or "", _now_s())
            return
        if isinstance(event, NodeLost):
            self._write_loss(event)
            self._watchdog.lost(event.node)
        if isinstance(event, UnitDone | UnitFailed):
            self._watch.ended(event.key)
            self._watchdog.ended(event.node, event.key, _now_s())
            self._search(occurrence)
        self._act(event)
        for sample in (entry.body for entry in occurrence.entries if isinstance(entry.body, SampleRecord)):
            self._watchdog.moved(occurrence.node or "", sample.unit, _now_s())
            for decision in self._watch.sample(sample):
                self._rule(decision)

    def _search(self, occurrence: Occurrence) -> None:
        """What follows from a probe, told before its end: its node would stop the engine in between."""
        for entry in occurrence.entries:
            if entry.kind == "unit_done" and entry.key is not None:
                for decision in self._searches.done(entry.key, entry.body):
                    self._rule(decision)

    def _write_loss(self, event: NodeLost) -> None:
        """What the lost node was running, or had waiting, has failed."""
        start = self._fleet.start_of(event.node)
        for key, attempt, failure in self._dispatcher.losses(event.node, event.reason):
            self._chronicle.append("unit_failed", failure, key=key, attempt=attempt, node=event.node, launch=start)
            self._watch.ended(key)

    def _rule(self, decision: Decision) -> None:
        """Record what a rule of the plan decided, and tell the dispatcher."""
        self._chronicle.append("decision", decision)
        self._screen.line(f"{decision.target} {decision.eval or decision.sweep}: {decision.reason}")
        if decision.dropped:
            self._act(UnitsDropped(frozenset(decision.dropped)))
        if decision.added:
            self._act(UnitsAdded(decision.added))

    def _act(self, event: Event) -> None:
        if isinstance(event, UnitDone | SampleDone):
            self._beats.heard(event.node, _now_s())
        for action in self._dispatcher.handle(event):
            if isinstance(action, RunUnit):
                if isinstance(action.unit, EvalUnit):
                    self._watch.started(action.unit)
                self._watchdog.started(action.node, action.unit, _now_s())
                body = {"target": action.unit.target, "kind": action.unit.kind}
                start = self._fleet.start_of(action.node)
                self._chronicle.append(
                    "unit_started", body, key=action.unit.key, attempt=action.attempt, node=action.node, launch=start
                )
            elif isinstance(action, StartEngine):
                begun = Decision(what="start_engine", target=action.target, reason=f"launch {action.launch + 1}")
                self._chronicle.append("decision", begun, node=action.node)
            self._fleet.do(action)
        if not isinstance(event, SampleDone):
            self._screen.counts(self._dispatcher.counts())

    def _write(self, occurrence: Occurrence) -> None:
        for entry in occurrence.entries:
            body = entry.body
            timed = isinstance(body, PerfMeasurement | LoadMeasurement)
            if timed and entry.rows is not None and entry.key is not None:
                body = body.model_copy(
                    update={"rows_sha256": self._chronicle.journal.write_rows(entry.key, entry.rows)}
                )
            self._chronicle.append(
                entry.kind, body, key=entry.key, attempt=entry.attempt, node=occurrence.node, launch=occurrence.start
            )

    def _interrupt(self, number: signal.Signals) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._signal is None:
            self._signal = SIGNAL_EXITS[number]
            self._drain_ends_s = now_s + DRAIN_LIMIT_S
            self._screen.line(f"{number.name}: ending; everything measured is kept (once more to end at once)")
        else:
            self._screen.line(f"{number.name} again: ending at once")
            self._drain_ends_s = now_s
            self._hurry.set()
        self._released.set()
        self._fleet.cancel()
        self._fleet.occurrences.put_nowait(Occurrence(Drain(number.name)))

    async def _wait_for_release(self) -> None:
        for start, url, pid in await self._fleet.addresses():
            self._screen.line(f"holding {start}: {url} pid {pid}")
        self._screen.line("holding the servers for other tools; Ctrl-C ends them")
        await self._released.wait()
        self._signal = None
