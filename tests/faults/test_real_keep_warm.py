"""`--keep-warm` with a real SGLang server: what a killed driver leaves is taken over by the resume, then measured."""

import signal
from pathlib import Path

import pytest
from cli_runs import assert_each_attempt_ended_once, assert_none_survives, cli_run, finished, of_kind, records, results
from faults.test_real_server import write_config

from raybench.engine.leftovers import left_overs

pytestmark = [pytest.mark.sglang, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

NUM_REPEATS = 6


def test_a_killed_driver_finds_its_server_again(tmp_path: Path, cluster: str) -> None:
    out = tmp_path / "out"
    perf = [{"batch_sizes": [4], "input_tokens": 64, "output_tokens": 128, "repeats": NUM_REPEATS}]
    path = write_config(tmp_path / "warm.yaml", perf=perf, evals=None)
    words = (str(path), "--address", cluster, "--keep-warm", "10m")
    with cli_run(out, *words, "--out", str(out)) as run:
        run.until_done(1)
        run.send(signal.SIGKILL)
        run.wait()
        servers = {left.pid for left in left_overs(run.run_id)}
        assert servers
        code, output = finished(out, *words, "--resume", str(out))
        assert code == 0, output
        assert "taken over from n0.0 after" in output
        cold, warm = [record["body"] for record in of_kind(records(out), "engine")]
        assert (warm["adopted_from"], warm["url"], warm["version"]) == ("n0.0", cold["url"], cold["version"])
        took = [{phase["name"]: phase["duration_s"] for phase in engine["startup"]}["total"] for engine in (cold, warm)]
        assert took[1] < 0.2 * took[0]
        found = records(out)
        assert_each_attempt_ended_once(found)
        assert len(results(found)) == NUM_REPEATS
        for record in results(found):
            assert (record["body"]["measured"]["num_ok"], record["body"]["measured"]["cached_tokens"]) == (4, 0)
            assert len(record["body"]["warm_up"]) >= 1, "a server that was taken over is warmed up like any other"
        assert_none_survives(run.run_id)
