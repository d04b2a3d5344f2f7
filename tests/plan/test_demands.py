"""Which machine serves which target, and what is said when there are too few."""

import pytest

from raybench.errors import ClusterError
from raybench.plan.demands import Demand, Machine, assign, assign_some


def machine(name: str, accelerator: str, gpus: float = 8) -> Machine:
    return Machine(name, f"10.0.0.{name[-1]}", 32, gpus, (accelerator,) if accelerator else ())


H200 = [machine("a1", "H200"), machine("a2", "H200")]
B200 = [machine("b1", "B200")]


def test_targets_on_disjoint_machines_each_get_their_own() -> None:
    slots = assign([Demand("h", "H200", 2, 8, False), Demand("b", "B200", 1, 8, False)], H200 + B200)
    assert [(s.machine, s.targets) for s in slots] == [("a1", ("h",)), ("a2", ("h",)), ("b1", ("b",))]


def test_targets_that_need_the_same_machines_share_them() -> None:
    slots = assign([Demand("tp8", "H200", 2, 8, False), Demand("tp4", "H200", 1, 8, False)], H200)
    assert [(s.machine, s.targets) for s in slots] == [("a1", ("tp8", "tp4")), ("a2", ("tp8",))]


def test_simulated_targets_need_no_machine_and_cpu_targets_need_a_cpu() -> None:
    slots = assign([Demand("s", "H200", 3, 0, True), Demand("c", "CPU", 1, 0, False)], [machine("m1", "", 0)])
    assert [(s.machine, s.num_cpus) for s in slots] == [(None, 0.0)] * 3 + [(None, 1.0)]


def test_simulated_nodes_go_in_turn_to_the_machines_that_they_stand_for_and_take_nothing_of_them() -> None:
    wanted = [Demand("s", "H200", 3, 0, True, stands_for_gpus=8), Demand("b", "GB300", 1, 0, True, stands_for_gpus=4)]
    slots = assign([*wanted, Demand("real", "H200", 2, 8, False)], H200 + B200)
    assert [(s.machine, s.num_gpus, s.num_cpus) for s in slots if s.targets == ("s",)] == [
        ("a1", 0, 0.0),
        ("a2", 0, 0.0),
        ("a1", 0, 0.0),
    ]
    assert [s.machine for s in slots if s.targets == ("b",)] == [None], "no such machine: anywhere"
    assert [s.machine for s in slots if s.targets == ("real",)] == ["a1", "a2"]


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        (Demand("b", "B200", 2, 8, False), "B200: 2 machine(s) with 8 GPU(s) asked (targets b), 1 in the cluster"),
        (Demand("x", "GB300", 1, 4, False), "GB300: 1 machine(s) with 4 GPU(s) asked (targets x), 0 in the cluster"),
        (Demand("c", "CPU", 97, 0, False), "CPU slots: 97 asked, 96 CPUs in the cluster"),
    ],
)
def test_what_is_missing_is_told_in_a_table(demand: Demand, said: str) -> None:
    with pytest.raises(ClusterError) as error:
        assign([demand], H200 + B200)
    assert said in error.value.message
    assert "10.0.0.1: 32 CPU, 8 GPU, H200" in error.value.message
    assert error.value.exit_code == 20


@pytest.mark.parametrize("names", ["a1 b2", "b2 a1"])
def test_a_target_that_wants_fewer_gpus_leaves_the_large_machine_to_one_that_needs_it(names: str) -> None:
    machines = [machine(name, "H200", 8 if name == "a1" else 4) for name in names.split()]
    slots = assign([Demand("tp4", "H200", 1, 4, False), Demand("tp8", "H200", 1, 8, False)], machines)
    assert [(s.machine, s.targets) for s in slots] == [("b2", ("tp4",)), ("a1", ("tp8",))]


def test_a_run_that_begins_with_fewer_leaves_a_machine_to_targets_that_want_fewer_gpus() -> None:
    wanted = [Demand("tp8", "H200", 2, 8, False), Demand("tp4", "H200", 1, 4, False)]
    slots = assign_some(wanted, H200)
    assert sorted((s.machine or "later", s.targets) for s in slots) == [
        ("a1", ("tp8",)), ("a2", ("tp4",)), ("later", ("tp8",))
    ]  # fmt: skip


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_targets_take_turns_where_another_would_find_no_machine_otherwise(order: tuple[int, ...]) -> None:
    wanted = [
        Demand("tp4", "H200", 1, 4, False),
        Demand("tp8", "H200", 1, 8, False),
        Demand("ep8", "H200", 1, 8, False),
    ]
    slots = assign([wanted[number] for number in order], H200)
    assert {frozenset(s.targets) for s in slots} == {frozenset(["tp4"]), frozenset(["tp8", "ep8"])}
    assert len({s.machine for s in slots}) == 2
    assert len(assign(wanted, [*H200, machine("a3", "H200")])) == 3, "each its own where there are enough"
