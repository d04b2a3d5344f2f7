"""A node that does not answer is suspect once, well again once, lost once; a driver that was away suspects nobody."""

from raybench.plan.heartbeat import LOST_AFTER_S, PING_EVERY_S, SUSPECT_AFTER_S, Heartbeats, Silence


def looks(beats: Heartbeats, since_s: float, until_s: float) -> list[tuple[float, Silence]]:
    """What regular looks tell, and when."""
    found: list[tuple[float, Silence]] = []
    now_s = since_s
    while now_s <= until_s:
        found += [(now_s, silence) for silence in beats.look(now_s)]
        now_s += PING_EVERY_S
    return found


def test_one_question_is_open_at_a_time() -> None:
    beats = Heartbeats()
    assert beats.asked("n0", 0.0) and not beats.asked("n0", 1.0)
    assert beats.asked("n1", 1.0)
    assert not beats.answered("n0"), "it was not suspect"
    assert beats.asked("n0", 2.0)


def test_a_node_that_has_just_sent_something_is_not_asked() -> None:
    beats = Heartbeats()
    beats.heard("n0", 10.0)
    assert not beats.asked("n0", 10.0 + PING_EVERY_S / 2)
    assert beats.asked("n1", 10.0), "another one is"
    assert beats.asked("n0", 10.0 + PING_EVERY_S)
    # What it sends meanwhile may have been under way for long: only an answer is one.
    beats.heard("n0", 11.0 + PING_EVERY_S)
    assert {s.node for _, s in looks(beats, 10.0, 10.0 + PING_EVERY_S + SUSPECT_AFTER_S)} == {"n0", "n1"}


def test_a_silent_node_is_suspect_once_and_lost_once() -> None:
    beats = Heartbeats()
    beats.asked("n0", 0.0)
    beats.asked("n1", 0.0)
    beats.answered("n1")
    (suspect_s, suspect), (lost_s, lost) = looks(beats, 0.0, 3 * LOST_AFTER_S)
    assert (suspect.node, suspect.lost, suspect_s) == ("n0", False, SUSPECT_AFTER_S)
    assert (lost.node, lost.lost, lost_s) == ("n0", True, LOST_AFTER_S)
    assert "no answer for 10 s" in suspect.reason
    assert not beats.answered("n0"), "it comes too late"


def test_a_suspect_that_answers_is_well_and_may_become_one_again() -> None:
    beats = Heartbeats()
    for round_s in (0.0, 100.0):
        beats.asked("n0", round_s)
        assert [s.lost for _, s in looks(beats, round_s, round_s + 50)] == [False]
        assert beats.answered("n0")
        looks(beats, round_s + 52, round_s + 98)


def test_a_driver_that_was_away_has_heard_of_nothing_and_suspects_nobody_for_it() -> None:
    beats = Heartbeats()
    looks(beats, 0.0, 100.0)
    beats.asked("n0", 100.0)
    assert beats.look(5000.0) == []
    assert [now_s for now_s, _ in looks(beats, 5002.0, 5050.0)] == [5000.0 + SUSPECT_AFTER_S]
    assert beats.look(9000.0) == [], "nor lost"
    [(lost_s, lost)] = looks(beats, 9002.0, 9000.0 + LOST_AFTER_S)
    assert lost.lost and lost_s >= 9000.0 + LOST_AFTER_S - SUSPECT_AFTER_S


def test_a_node_with_a_lease_is_asked_however_much_it_sends() -> None:
    beats, asked_s = Heartbeats(leased=True), list[float]()
    for second in range(60):
        beats.heard("n0", second)
        if beats.asked("n0", second):
            asked_s.append(second)
            assert not beats.asked("n0", second), "one question at a time"
            beats.answered("n0")
    assert len(asked_s) == 60, "its lease would be over although its driver is there"
