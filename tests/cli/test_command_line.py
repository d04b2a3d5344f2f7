"""The commands as a user types them: exit codes, messages, what is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ledger_builder import check_units, whole_ledger

import raybench
import raybench.cli
from raybench.cli import main
from raybench.errors import ClusterError

ROOT = Path(raybench.__file__).parent.parent
HEAVY = ("ray", "pandas", "wandb", "datasets", "scipy", "statsmodels", "pyarrow", "openai", "numpy", "pydantic", "yaml")

CONFIG = """\
name: small
model: {path: tiny:trained}
targets:
  - {name: one, accelerator: CPU}
  - {name: two, accelerator: H200, nodes: 2, gpus_per_node: 8}
perf:
  - {batch_sizes: [1, 2, 4], input_tokens: 16, output_tokens: 4, repeats: 2, launches: 2}
evals:
  - name: sums
    sampling: {temperature: 0, max_tokens: 64}
    block_size: 32
"""


def command(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | more
    return subprocess.run(
        [sys.executable, "-m", "raybench", *words], env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def test_help_names_every_command() -> None:
    done = command("--help")
    assert done.returncode == 0
    for name in ("run", "submit", "status", "doctor", "plan", "report", "schema", "models", "calibrate"):
        assert name in done.stdout


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom raybench.cli import main\nsys.argv = ['raybench', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "print('MODULES', code, *sys.modules, file=sys.stderr)"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    words = next(line for line in done.stderr.splitlines() if line.startswith("MODULES")).split()
    assert words[1] == "0"
    assert "raybench.cli.run" in words
    assert [name for name in HEAVY if name in words] == []


def test_the_version() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"raybench {raybench.__version__}\n")


@pytest.mark.parametrize("words", [("nonsense",), ("run",), ("plan", "--nonsense"), ("models", "make")])
def test_wrong_usage_ends_with_2(words: tuple[str, ...]) -> None:
    assert command(*words).returncode == 2


def test_the_schema_is_printed() -> None:
    done = command("schema")
    assert done.returncode == 0
    assert json.loads(done.stdout)["title"] == "RunConfig"


def test_the_plan_is_printed_with_whole_keys_however_narrow_the_screen(config: Path) -> None:
    wide, narrow = command("plan", str(config)), command("plan", str(config), COLUMNS="70")
    assert wide.returncode == 0, wide.stderr
    assert "small: model tiny:trained, plan " in wide.stdout
    assert "H200" in wide.stdout
    assert "launch 1, repeat 1" in command("plan", str(config), COLUMNS="200").stdout, "counted as in the report"
    keys = [unit["key"] for unit in json.loads(command("plan", str(config), "--json").stdout)["units"]]
    for key in keys:
        assert key in wide.stdout
        assert key in narrow.stdout


def test_the_plan_as_json_holds_units_and_demands(config: Path) -> None:
    done = command("plan", str(config), "--json", "--set", "targets.two.nodes=3")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert [(d["target"], d["accelerator"], d["nodes"], d["gpus_per_node"]) for d in content["demands"]] == [
        ("one", "CPU", 1, 0),
        ("two", "H200", 3, 8),
    ]
    per_target = [u["kind"] for u in content["units"] if u["target"] == "one"]
    assert (per_target.count("perf"), per_target.count("eval")) == (3 * 2 * 2, 2)
    keys = [u["key"] for u in content["units"]]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", ["plan", "run"])
def test_a_wrong_configuration_ends_with_10_and_one_message(config: Path, name: str) -> None:
    config.write_text(CONFIG.replace("repeats: 2", "repeat: 2"))
    done = command(name, str(config))
    assert done.returncode == 10
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {config}:7: perf.0.repeat: expected a known key")
    assert "Traceback" not in done.stderr


def test_an_unknown_eval_ends_with_10(config: Path) -> None:
    config.write_text(CONFIG.replace("name: sums", "name: sumz"))
    done = command("plan", str(config))
    assert done.returncode == 10
    assert "did you mean 'sums'?" in done.stderr


def test_a_report_of_nothing_ends_with_13(tmp_path: Path) -> None:
    done = command("report", str(tmp_path / "nowhere"))
    assert done.returncode == 13, done.stderr
    assert "Traceback" not in done.stderr


def test_models_are_listed_and_unknown_ones_refused(tmp_path: Path) -> None:
    listed = command("models", "list")
    assert listed.returncode == 0
    assert "tiny:trained" in listed.stdout.splitlines()
    assert "dummy:qwen3-235b-a22b-fp8-11-layers" in listed.stdout.splitlines()
    refused = command("models", "make", "tiny:traind", str(tmp_path))
    assert refused.returncode == 10
    assert "tiny:trained" in refused.stderr


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (ClusterError("no machines"), 20, "error: no machines\n"),
        (KeyboardInterrupt(), 130, ""),
        (ZeroDivisionError("oops"), 1, "this is a bug of ours"),
    ],
)
def test_whatever_a_command_raises_has_an_exit_code(
    raised: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise raised

    monkeypatch.setattr(raybench.cli, "app", broken)
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == code
    assert words in said
    assert ("Traceback" in said) == (code == 1)


def test_an_interrupted_command_ends_with_130(config: Path) -> None:
    script = (
        "import os, signal, sys, time\nimport raybench.config.read as read\n"
        # A shell's background jobs inherit an ignored SIGINT.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        # The signal may reach another thread first: the sleep is where it is heard at the latest.
        "read.load = lambda *_: (os.kill(os.getpid(), signal.SIGINT), time.sleep(30))\n"
        f"sys.argv = ['raybench', 'plan', {str(config)!r}]\nfrom raybench.cli import main\nmain()"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 130


def test_a_reader_that_goes_away_is_no_bug(config: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "raybench", "schema"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        said = child.stderr.read().decode()
        assert child.wait() != 0
    assert "Traceback" not in said


def test_a_reference_is_saved_from_a_run_and_read_into_a_configuration(tmp_path: Path, config: Path) -> None:
    builder = whole_ledger()
    for unit in check_units("beta"):
        builder.checked(unit, "n1.0")
    folder = builder.write(tmp_path / "run")
    path = tmp_path / "accepted.yaml"
    refused = command("report", str(folder), "--save-reference", str(path))
    assert refused.returncode == 10
    assert "--target (alpha, beta)" in refused.stderr
    assert command("report", str(folder), "--target", "alpha").returncode == 2
    saved = command("report", str(folder), "--save-reference", str(path), "--target", "beta")
    assert saved.returncode == 0, saved.stderr
    assert f"reference: sums, log-probabilities of beta in {path}" in saved.stdout
    assert command("plan", str(config), "--set", "evals.sums.reference=accepted.yaml").returncode == 0
    assert command("plan", str(config), "--set", "preflight={reference: accepted.yaml}").returncode == 0
    missing = command("plan", str(config), "--set", "evals.sums.reference=other.yaml")
    assert missing.returncode == 10
    assert "evals.0.reference: there is no reference file" in missing.stderr
