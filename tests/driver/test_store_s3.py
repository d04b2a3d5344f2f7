"""The same run folder on a pretended S3 that speaks its protocol on loopback."""

import queue
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_builder import config

from raybench.driver import store as storage
from raybench.driver.store import PARTS, WRITER, Mirror, Store
from raybench.errors import LedgerError, StorageError
from raybench.ledger.bodies import Decision, RunBody
from raybench.ledger.journal import LEDGER, REQUESTS, Journal

pytestmark = [
    pytest.mark.slow,
    # Flask's, botocore's and aiohttp's own; none of ours.
    pytest.mark.filterwarnings("ignore"),
]

URL = "s3://bucket/runs/first"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    import boto3
    import s3fs

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    # What an earlier server of this process was given is still there.
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket="bucket")
    s3fs.S3FileSystem.clear_instance_cache()
    yield url
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def begun(spool: Path) -> Journal:
    journal = Journal.create(spool)
    body = RunBody(
        run_id="r", session=0, config=config(), config_digest="c", raybench_version="0", ray_version="2",
        python_version="3", cluster="local", command=("raybench",),
    )  # fmt: skip
    journal.append("run", body)
    return journal


def test_a_run_folder_on_s3_is_written_lost_locally_and_taken_up_again(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "LEASE_S", 0.05)
    store, spool = Store(URL), tmp_path / "spool"
    store.check_new()
    journal = begun(spool)
    first = Mirror(store, spool, pytest.fail, flush_s=3600)
    first.flush()
    journal.write_rows("key", b"rows")
    journal.append("decision", Decision(what="end", reason="one"))
    first.flush()
    # Killed here: its mark stays. Another machine goes on.
    other = tmp_path / "other"
    second = Mirror(Store(URL), other, lambda _: None, flush_s=3600)
    assert (other / LEDGER).read_bytes() == (spool / LEDGER).read_bytes()
    assert (other / REQUESTS / "key.parquet").read_bytes() == b"rows"
    resumed, records = Journal.resume(other)
    assert len(records) == 2
    resumed.append("decision", Decision(what="end", reason="two"))
    (other / "report.md").write_text("report")
    second.close(("report.md",))
    assert store.names(PARTS) == ["0000000000.jsonl", "0000000001.jsonl", "0000000002.jsonl"]
    assert store.ledger() == (other / LEDGER).read_bytes()
    assert (store.get("report.md"), store.get(WRITER)) == (b"report", None)
    with pytest.raises(LedgerError, match="has taken s3://bucket/runs/first over"):
        first.flush()
    with pytest.raises(LedgerError, match="already holds a ledger"):
        store.check_new()
    for each in (journal, resumed):
        each.close()


def test_an_endpoint_that_is_away_for_a_while_is_told_and_loses_nothing(s3: str, tmp_path: Path) -> None:
    store, spool = Store(URL), tmp_path / "spool"
    told: queue.Queue[str] = queue.Queue()
    journal = begun(spool)
    copied = Mirror(store, spool, told.put, flush_s=0.1)
    journal.append("decision", Decision(what="end", reason="before"))
    copied.flush()
    elsewhere = {"endpoint_url": "http://127.0.0.1:9"}
    import s3fs

    store._files = s3fs.S3FileSystem(client_kwargs=elsewhere, config_kwargs={"retries": {"max_attempts": 0}})
    assert "EndpointConnectionError" in told.get(timeout=120)
    journal.append("decision", Decision(what="end", reason="meanwhile"))
    store._files = Store(URL)._files
    copied.close()
    journal.close()
    assert store.ledger() == (spool / LEDGER).read_bytes()
    assert store.get(WRITER) is None


def test_a_bucket_that_is_not_there_is_refused_before_anything_starts(s3: str) -> None:
    with pytest.raises(StorageError, match="cannot write to s3://nobodys/run: "):
        Store("s3://nobodys/run").check_new()
    import boto3

    buckets = boto3.client("s3", endpoint_url=s3).list_buckets()["Buckets"]
    assert [bucket["Name"] for bucket in buckets] == ["bucket"], "a mistyped name must not become a bucket"
