"""A publisher on a machine on which somebody measures is ended, and makes up for it when the measurement is over."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_runs import wait_for
from ledger_builder import LedgerBuilder
from publishers import Told, access, assert_whole, builder_of, publish, publishing, state, writing
from wandb_service import Fault, WandbService, serving

from raybench.node.host import host_lock


@pytest.fixture
def service() -> Iterator[WandbService]:
    with serving() as made:
        yield made


@contextmanager
def measuring() -> Iterator[None]:
    """Own the host as a perf unit does."""
    with host_lock(alone=True, progress=lambda _: None):
        yield


def _nobody_publishes(folder: Path, service: WandbService) -> None:
    """No process, no request, for as long as several publications would take to begin."""
    wait_for(lambda: not publishing(folder), lambda: "the publisher goes on beside a measurement")
    num_requests = len(service.requests)
    for _ in range(10):
        time.sleep(0.1)
        assert not publishing(folder)
    assert len(service.requests) == num_requests


def _first_part(builder: LedgerBuilder) -> LedgerBuilder:
    """The same run when two load points of its first target are whole."""
    last = next(record.seq for record in builder.records if record.key == "alpha-static-b16-r1-l0")
    half = builder_of(follow_every_s=0.2)
    half.records = builder.records[:last]
    return half


@pytest.mark.slow
def test_following_makes_room_for_a_measurement_and_goes_on_after_it(tmp_path: Path, service: WandbService) -> None:
    whole = builder_of(follow_every_s=0.2)
    folder = _first_part(whole).write(tmp_path / "run")
    fault = Fault("file_stream", hang=True)
    service.faults = [fault]
    with ThreadPoolExecutor(1) as pool, writing(folder):
        following = pool.submit(publish, folder, access(service), follow=True)
        wait_for(lambda: fault.num_hits > 0, lambda: "the stream was never reached")
        with measuring():
            _nobody_publishes(folder, service)
            assert (state(folder).state, state(folder).attempts) == ("waiting", 0)
            service.faults = []
            service.closing.set()
            _nobody_publishes(folder, service)
        wait_for(lambda: state(folder).state == "published", lambda: str(state(folder)))
        assert (state(folder).last.rows, state(folder).last.closed) == (2, False)
        whole.write(folder)
    told: Told = following.result()
    assert told.ok, told.text
    assert_whole(folder, service)


def test_what_is_published_later_waits_for_a_measurement_too(tmp_path: Path) -> None:
    folder = builder_of(sinks=["parquet"]).write(tmp_path / "run")
    told = Told()
    with ThreadPoolExecutor(1) as pool:
        with measuring():
            trying = pool.submit(publish, folder, {}, told=told)
            wait_for(lambda: bool(told.lines), lambda: "nothing was said")
            assert told.lines == ["Parquet: waiting, a raybench measures on this host"]
            assert not (folder / "history").exists()
        assert trying.result().ok, told.text
    assert (folder / "history").is_dir()
