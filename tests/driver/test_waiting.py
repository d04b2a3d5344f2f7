"""Machines that are missing are waited for: with a limit, with progress, and with a word to the autoscaler."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ray.exceptions import RpcError

from raybench.config.schema import RunConfig
from raybench.driver import run as driver_run
from raybench.driver import waiting
from raybench.driver.run import Order
from raybench.driver.waiting import Surroundings, Wish, await_slots, checked_slots, some_slots
from raybench.errors import ClusterError
from raybench.plan.demands import Demand, Machine
from raybench.plan.expand import expand

WANTED = [Demand("h", "H200", 2, 8, False), Demand("h4", "H200", 1, 8, False), Demand("b", "B200", 1, 8, False)]
HEAD = Machine("head", "10.0.0.1", 16, 0, ())


def machine(name: str, accelerator: str) -> Machine:
    return Machine(name, f"10.0.0.{name}", 192, 8, (accelerator,))


@dataclass
class Cluster:
    """Machines that come at their seconds, on a clock that only sleeping moves."""

    arrivals: dict[float, Machine]
    t: float = 0.0
    requests: list[list[dict[str, float]]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    ghosts: set[str] = field(default_factory=set)
    """Machines without power, listed until one asks them."""
    buried: set[str] = field(default_factory=set)

    def around(self) -> Surroundings:
        return Surroundings(self.machines, self.requests.append, lambda: self.t, self.sleep, self.check)

    def machines(self) -> tuple[Machine, ...]:
        come = (m for s, m in sorted(self.arrivals.items(), key=lambda a: a[0]) if s <= self.t)
        return (HEAD, *(m for m in come if m.id not in self.buried))

    def check(self, where: Sequence[Machine]) -> tuple[str, ...]:
        lost = [m for m in where if m.id in self.ghosts]
        self.buried |= {m.id for m in lost}
        self.t += 10 * len(lost)
        return tuple(m.address for m in lost)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.t += seconds


def test_nothing_is_waited_for_or_asked_for_when_all_is_there() -> None:
    cluster = Cluster({0: machine("2", "H200"), -1: machine("3", "H200"), -2: machine("4", "B200")})
    assert len(await_slots(WANTED, 600, cluster.said.append, cluster.around())) == 3
    assert (cluster.t, cluster.requests, cluster.said) == (0, [], [])


def test_machines_that_come_are_used_as_soon_as_they_suffice() -> None:
    cluster = Cluster({0: machine("2", "H200"), 42: machine("3", "H200"), 170: machine("4", "B200"), 999: HEAD})
    slots = await_slots(WANTED, 600, cluster.said.append, cluster.around())
    assert [(s.machine, s.targets) for s in slots] == [("2", ("h", "h4")), ("3", ("h",)), ("4", ("b",))]
    assert 170 <= cluster.t < 180
    h200 = {"GPU": 8.0, "CPU": 1.0, "accelerator_type:H200": 0.001}
    b200 = {"GPU": 8.0, "CPU": 1.0, "accelerator_type:B200": 0.001}
    # The wish is taken back in the end, or the autoscaler would keep idle machines for ever.
    assert cluster.requests == [[h200, h200, b200], []]
    first, second, *later = cluster.said
    assert first == (
        "waiting for machines (0 of 600 s): H200: 2 machine(s) with 8 GPU(s) asked (targets h, h4), 1 in the cluster; "
        "B200: 1 machine(s) with 8 GPU(s) asked (targets b), 0 in the cluster"
    )
    assert second.startswith("waiting for machines (45 of 600 s): B200")
    assert [line.split(" of")[0] for line in later] == ["waiting for machines (105", "waiting for machines (165"]


def test_the_limit_ends_the_wait_with_the_table_and_takes_the_wish_back() -> None:
    cluster = Cluster({0: machine("2", "H200"), 5: machine("3", "H200")})
    with pytest.raises(ClusterError, match="after 12 s of waiting the cluster cannot meet the demands") as error:
        await_slots(WANTED, 12, cluster.said.append, cluster.around())
    assert "B200: 1 machine(s) with 8 GPU(s) asked (targets b), 0 in the cluster" in error.value.message
    assert "10.0.0.3: 192 CPU, 8 GPU, H200" in error.value.message
    assert cluster.t == 12
    assert cluster.requests[-1] == []


def test_without_a_limit_nobody_waits() -> None:
    cluster = Cluster({})
    with pytest.raises(ClusterError, match=r"^the cluster cannot meet"):
        await_slots(WANTED, 0, cluster.said.append, cluster.around())
    assert (cluster.t, cluster.requests, cluster.said) == (0, [], [])


def test_a_run_may_begin_with_one_machine_for_each_target_and_the_autoscaler_goes_on() -> None:
    wanted = [Demand("h", "H200", 3, 8, False), Demand("b", "B200", 2, 8, False), Demand("s", "CPU", 2, 0, True)]
    cluster = Cluster({0: machine("2", "H200"), 1: machine("3", "H200"), 42: machine("4", "B200")})
    slots = some_slots(wanted, 600, cluster.said.append, cluster.around())
    assert 42 <= cluster.t < 50
    assert sorted((slot.targets[0], slot.machine or "-") for slot in slots) == [
        ("b", "-"), ("b", "4"), ("h", "-"), ("h", "2"), ("h", "3"), ("s", "-"), ("s", "-")
    ]  # fmt: skip
    assert cluster.said[-1] == "beginning with 5 of 7 nodes; the others may join"
    assert len(cluster.requests[-1]) == 5, "what is missing is still wished for"


def test_with_all_machines_there_nothing_is_left_to_join() -> None:
    cluster = Cluster({0: machine("2", "H200"), -1: machine("3", "H200"), -2: machine("4", "B200")})
    slots = some_slots(WANTED, 0, cluster.said.append, cluster.around())
    assert slots == await_slots(WANTED, 0, cluster.said.append, cluster.around())
    assert cluster.said == cluster.requests == []


def test_a_target_without_any_machine_does_not_begin() -> None:
    cluster = Cluster({0: machine("2", "H200")})
    with pytest.raises(ClusterError, match="B200: 1 machine"):
        some_slots([Demand("h", "H200", 3, 8, False), Demand("b", "B200", 2, 8, False)], 0, cluster.said.append,
                   cluster.around())  # fmt: skip


@pytest.mark.parametrize("fewer", [False, True])
def test_a_machine_that_is_lost_while_it_is_asked_is_waited_for_as_one_that_never_came(fewer: bool) -> None:
    there = {0: machine("2", "H200"), -1: machine("3", "H200"), -2: machine("4", "B200"), 60: machine("5", "B200")}
    cluster = Cluster(there, ghosts={"4"})
    slots = checked_slots(WANTED, 600, cluster.said.append, fewer=fewer, around=cluster.around())
    assert {slot.machine for slot in slots} == {"2", "3", "5"}
    assert cluster.said[0] == "lost before the run began: 10.0.0.4"
    assert cluster.said[1].startswith("waiting for machines (0 of 590 s): B200"), "what the asking took counts"


def test_a_machine_lost_while_it_is_asked_is_told_in_the_table_where_nobody_waits() -> None:
    cluster = Cluster({0: machine("2", "H200"), -1: machine("3", "H200"), -2: machine("4", "B200")}, ghosts={"4"})
    with pytest.raises(ClusterError, match="B200: 1 machine"):
        checked_slots(WANTED, 0, cluster.said.append, fewer=False, around=cluster.around())


def test_a_lost_machine_that_no_target_needs_costs_nothing() -> None:
    there = {0: machine("2", "H200"), -1: machine("3", "H200"), -2: machine("4", "B200"), -3: machine("9", "A100")}
    cluster = Cluster(there, ghosts={"9"})
    assert len(checked_slots(WANTED, 0, cluster.said.append, fewer=False, around=cluster.around())) == 3


def test_a_wish_is_taken_back_once_and_only_where_one_stands() -> None:
    sent: list[list[dict[str, float]]] = []
    wish = Wish(sent.append)
    wish.take_back()
    assert sent == []
    wish.ask([{"CPU": 1.0}])
    wish.take_back()
    wish.take_back()
    assert sent == [[{"CPU": 1.0}], []]


def test_a_cluster_that_is_gone_does_not_hide_why_the_run_ends() -> None:
    def send(wanted: list[dict[str, float]]) -> None:
        if not wanted:
            raise RpcError("no head")

    wish = Wish(send)
    wish.ask([{"CPU": 1.0}])
    wish.take_back()


@pytest.mark.parametrize("private", [True, False])
def test_a_start_that_is_refused_leaves_no_wish(private: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    there = (machine("2", "H200"),)

    def refuse(where: Sequence[Machine]) -> tuple[str, ...]:
        raise ClusterError("another version")

    def request(bundles: object) -> None:
        sent.append(bundles)

    monkeypatch.setattr(waiting, "request_resources", request)
    monkeypatch.setattr(driver_run, "will_be_private", lambda _: False)
    monkeypatch.setattr(driver_run, "connect", lambda *_: driver_run.Cluster("a cluster", private))
    monkeypatch.setattr(driver_run, "disconnect", lambda: sent.append("disconnected"))
    monkeypatch.setattr(driver_run, "check_versions", refuse)
    monkeypatch.setattr(driver_run, "Surroundings", lambda **seams: Surroundings(lambda: there, **seams))
    monkeypatch.setattr(driver_run, "Journal", None)  # the private cluster, which is not asked for versions, ends here
    config = RunConfig.model_validate(
        {
            "name": "x", "model": {"path": "m"},
            "targets": [{"name": "h", "accelerator": "H200", "nodes": 2, "gpus_per_node": 1}],
            "engine": {"kind": "sglang"}, "perf": [{"batch_sizes": [1], "input_tokens": 4, "output_tokens": 4}],
        }
    )  # fmt: skip
    order = Order(config, expand(config, {}), tmp_path, "r", False, "auto", False, (), fewer=True)
    with pytest.raises(AttributeError if private else ClusterError, match="None" if private else "another version"):
        driver_run.run(order, lambda *_: None, lambda _: None)  # type: ignore[arg-type,return-value]
    wished = [{"GPU": 1.0, "CPU": 1.0, "accelerator_type:H200": 0.001}] * 2
    assert sent == (["disconnected"] if private else [wished, [], "disconnected"])
