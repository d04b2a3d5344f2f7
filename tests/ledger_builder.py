"""Ledgers made by hand, for tests of everything that reads one: two targets, three batch sizes, two repeats, one eval.

`LedgerBuilder` holds a configuration and appends records; `whole_ledger` is a complete run; a test changes one thing.
Times are round numbers from a small model, so that every figure can be computed on paper.
"""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from pydantic import JsonValue

from raybench.config.schema import RunConfig, engine_of
from raybench.ledger.bodies import Decision, PlanBody, RunBody
from raybench.ledger.view import RunView, fold
from raybench.records import (
    Check,
    CheckMeasurement,
    CheckUnit,
    EngineFacts,
    EvalMeasurement,
    EvalUnit,
    Failure,
    GpuFacts,
    GpuSummary,
    LedgerRecord,
    MemoryUsage,
    Message,
    NodeFacts,
    OneBatchLoad,
    Pass,
    PerfMeasurement,
    PerfUnit,
    Plan,
    Record,
    SampleRecord,
    SampleSpec,
    StartUpPhase,
    TeacherForced,
    prompt_hash,
)

T0 = 1_760_000_000.0
"""Wall clock of the first record; every record is a second later than the one before."""

PREFILL_TOK_PER_S = {"alpha": 20_000.0, "beta": 30_000.0}
ITL_MS = {"alpha": {1: 10.0, 4: 12.0, 16: 16.0}, "beta": {1: 8.0, 4: 9.0, 16: 11.0}}
REPEAT_FACTOR = (1.0, 1.01, 0.99)

PerfChange = Callable[[PerfUnit, PerfMeasurement], PerfMeasurement]
SampleChange = Callable[[SampleRecord], SampleRecord]
CheckChange = Callable[[CheckMeasurement], CheckMeasurement]
EngineChange = Callable[[EngineFacts], EngineFacts]


def config(**changes: JsonValue) -> RunConfig:
    """Two GPU targets; top-level keys can be replaced."""
    content: dict[str, JsonValue] = {
        "name": "study",
        "seed": 7,
        "model": {"path": "org/some-model", "revision": "main"},
        "targets": [
            {"name": "alpha", "accelerator": "H200", "gpus_per_node": 8, "price_per_gpu_hour": 2.0},
            {"name": "beta", "accelerator": "B200", "gpus_per_node": 8, "price_per_gpu_hour": 4.0},
        ],
        "engine": {"args": {"tp-size": 8}},
        "perf": [
            {"name": "static", "batch_sizes": [1, 4, 16], "input_tokens": 1000, "output_tokens": 101, "repeats": 2}
        ],
        "evals": [
            {"name": "sums", "sampling": {"temperature": 0, "max_tokens": 64}, "baseline": 0.9, "gate": "published",
             "margin": 0.15, "block_size": 20}
        ],
    }  # fmt: skip
    return RunConfig.model_validate(content | changes)


def simulated_targets() -> list[JsonValue]:
    """The two targets, simulated."""
    timing: JsonValue = {"prefill_tok_per_s": {1: 20000}, "itl_ms": {1: 10}, "time_scale": 50}
    return [
        {"name": name, "accelerator": kind, "engine": {"kind": "simulated", "simulated": timing}}
        for name, kind in (("alpha", "H200"), ("beta", "B200"))
    ]


def plan(settings: RunConfig, num_questions: int = 40) -> Plan:
    """Units with keys that can be read: `alpha-static-b4-r0-l0`, `alpha-sums-1`."""
    units: list[PerfUnit | EvalUnit] = []
    for target in settings.targets:
        for sweep in settings.perf:
            for launch in range(sweep.launches):
                for repeat in range(sweep.repeats):
                    for order, size in enumerate(sweep.batch_sizes):
                        load = OneBatchLoad(
                            batch_size=size, input_tokens=sweep.input_tokens, output_tokens=sweep.output_tokens
                        )
                        units.append(
                            PerfUnit(
                                key=f"{target.name}-{sweep.name}-b{size}-r{repeat}-l{launch}", target=target.name,
                                sweep=sweep.name, load=load, repeat=repeat, launch=launch, order=order,
                                prompt_seed=order, warm_up=sweep.warm_up, timeout_s=sweep.timeout_s,
                            )
                        )  # fmt: skip
        for settings_eval in settings.evals:
            specs = [
                sample_spec(target.name, settings_eval.name, number, repeat)
                for number in range(num_questions)
                for repeat in range(settings_eval.repeats)
            ]
            for block, start in enumerate(range(0, len(specs), settings_eval.block_size)):
                units.append(
                    EvalUnit(
                        key=f"{target.name}-{settings_eval.name}-{block}", target=target.name, eval=settings_eval.name,
                        block=block, samples=tuple(specs[start : start + settings_eval.block_size]),
                        sampling=settings_eval.sampling, concurrency=settings_eval.concurrency,
                        timeout_s=settings_eval.timeout_s,
                    )
                )  # fmt: skip
    return Plan(units=tuple(units))


def sample_spec(target: str, name: str, number: int, repeat: int = 0) -> SampleSpec:
    """Question `number`: what is number + 1? (the text is made up)."""
    return SampleSpec(
        key=f"{target}-{name}-q{number}-r{repeat}", question=f"q{number:03}", repeat=repeat,
        messages=(Message(role="user", content=f"What is {number} + 1?"),), gold=str(number + 1), seed=number,
    )  # fmt: skip


def one_pass(load: OneBatchLoad, ttft_s: float, itl_ms: float) -> Pass:
    """A pass of even steps: all first tokens at `ttft_s`, then one token of every request each `itl_ms`."""
    decode_s = load.output_tokens * itl_ms / 1000
    return Pass(
        latency_s=ttft_s + decode_s, first_ttft_s=ttft_s / 2, median_ttft_s=ttft_s * 0.75, last_ttft_s=ttft_s,
        last_token_s=ttft_s + decode_s, tokens_at_last_ttft=load.batch_size, first_end_s=ttft_s + decode_s,
        tokens_at_first_end=load.batch_size * load.output_tokens,
        prompt_tokens=load.batch_size * load.input_tokens, output_tokens=load.batch_size * load.output_tokens,
        min_output_tokens=load.output_tokens, max_output_tokens=load.output_tokens, cached_tokens=0, num_retractions=0,
        num_ok=load.batch_size, num_requests=load.batch_size, longest_gap_s=itl_ms / 1000,
        finish_reasons={"length": load.batch_size},
    )  # fmt: skip


def measurement(unit: PerfUnit, *, simulated: bool = False) -> PerfMeasurement:
    """What the model of times gives for a unit."""
    load = unit.load
    factor = REPEAT_FACTOR[unit.repeat % len(REPEAT_FACTOR)]
    table = ITL_MS.get(unit.target, ITL_MS["alpha"])
    itl_ms = table.get(load.batch_size, 10.0 + load.batch_size / 4)
    ttft_s = load.batch_size * load.input_tokens / PREFILL_TOK_PER_S.get(unit.target, 20_000.0)
    whole = one_pass(load, ttft_s * factor, itl_ms * factor)
    return PerfMeasurement(
        measured=whole, warm_up=(whole, whole), flat=True, started_unix_s=T0, duration_s=3 * whole.latency_s,
        client_cpu_fraction=0.2, load_average_1m=1.0, simulated=simulated,
        gpus=tuple(
            GpuSummary(index=i, mean_power_w=500.0, max_temperature_c=60.0, throttle_reasons=("sw_power_cap",))
            for i in range(0 if simulated else 8)
        ),
    )  # fmt: skip


def check_units(target: str, place: int = 0) -> list[CheckUnit]:
    """All checks of one node; they stand in no plan unless a test puts them there."""
    return [
        CheckUnit(key=f"{target}-{name}-{place}", target=target, check=name, place=place, timeout_s=60)
        for name in get_args(Check)
    ]


def check_measurement(unit: CheckUnit) -> CheckMeasurement:
    """A check that found nothing; the same on every node."""
    numbers: dict[Check, dict[str, object]] = {
        "prompt": {"prompt_tokens": (21, 34)},
        "agreement": {"replies": (("two", "and", "two"), ("four",)), "prompt_tokens": (21, 34)},
        "numerics": {"texts": (TeacherForced(tokens_sha256="5ha", logprobs=(-1.0, -2.0, -0.5), top_ids=(3, 4, 5)),)},
    }
    content = {
        "check": unit.check, "target": unit.target, "place": unit.place, "result": "ok",
        "words": f"{unit.check} is sound", "duration_s": 0.5, "num_requests": 2,
    }  # fmt: skip
    return CheckMeasurement.model_validate(content | numbers.get(unit.check, {}))


def sample_record(unit: EvalUnit, spec: SampleSpec) -> SampleRecord:
    """Nine of ten right on alpha, 19 of 20 on beta."""
    number = int(spec.question[1:])
    wrong = number % (10 if unit.target == "alpha" else 20) == 3
    value = int(spec.gold) + wrong
    return SampleRecord(
        key=spec.key, unit=unit.key, target=unit.target, eval=unit.eval, question=spec.question, repeat=spec.repeat,
        status="ok", reply=f"Answer: {value}", finish_reason="stop", prompt_tokens=12, output_tokens=5 + number % 3,
        prompt_sha256=prompt_hash(spec.messages), gold=spec.gold, seed=spec.seed, sent_unix_s=T0, duration_s=0.5,
    )  # fmt: skip


class LedgerBuilder:
    """Records of a ledger under construction."""

    def __init__(self, settings: RunConfig) -> None:
        self.settings = settings
        self.plan = plan(settings)
        self.records: list[LedgerRecord] = []

    def add(self, kind: str, body: Record, **place: JsonValue) -> None:
        """Append one record; `place` = key, attempt, node, launch."""
        seq = len(self.records)
        content = {"seq": seq, "t": T0 + seq, "kind": kind, "body": body.model_dump(mode="json")} | place
        self.records.append(LedgerRecord.model_validate(content))

    def session(self, number: int = 0) -> None:
        """A run record."""
        body = RunBody(
            run_id="study-1", session=number, config=self.settings, config_digest="c0ffee", raybench_version="0.1.0",
            ray_version="2.60.0", python_version="3.12.3", cluster="local Ray, 1 machine",
            command=("raybench", "run", "study.yaml"),
        )  # fmt: skip
        self.add("run", body)

    def planned(self) -> None:
        """The plan record."""
        self.add("plan", PlanBody(digest="p1a2n3", plan=self.plan))

    def node(self, target: str, number: int) -> None:
        """A node of a target on a machine of its own."""
        kind = next(t.accelerator for t in self.settings.targets if t.name == target)
        gpus = next(t.gpus_per_node for t in self.settings.targets if t.name == target)
        facts = NodeFacts(
            node=f"n{number}", host=f"boot-{number}", accelerator=kind, num_cpus=64, memory_bytes=1 << 40,
            gpus=tuple(
                GpuFacts(index=i, name=f"NVIDIA {kind}", uuid=f"GPU-{number}-{i}", memory_bytes=141 << 30)
                for i in range(gpus)
            ),
            driver_version="580.1" if gpus else None, cpu_model="Some CPU", kernel="6.8", python_version="3.12.3",
            ray_version="2.60.0", raybench_version="0.1.0", clock_unix_s=T0,
        )  # fmt: skip
        self.add("node", facts, node=f"n{number}")

    def engine(self, target: str, start: str, change: EngineChange | None = None) -> None:
        """An engine start."""
        settings = engine_of(self.settings, next(t for t in self.settings.targets if t.name == target))
        simulated = settings.kind == "simulated"
        facts = EngineFacts(
            engine=settings.kind, target=target, launch=0, start=start, version="0.5.21", url="http://127.0.0.1:30000",
            interpreter="node", argv=("--tp-size", "8"), model_revision="abc123",
            resolved_args={"attention_backend": "fa3", "dtype": "bfloat16", "chunked_prefill_size": 8192},
            startup=(
                StartUpPhase(name="weights", duration_s=63.0),
                StartUpPhase(name="cuda_graph", duration_s=27.5),
                StartUpPhase(name="total", duration_s=130.0),
            ),
            memory=MemoryUsage(weights_gib=27.9, kv_cache_gib=90.0, cuda_graph_gib=2.9, available_gib=14.0),
            max_total_tokens=2_000_000, context_tokens=262_144, simulated=simulated,
            time_scale=settings.simulated.time_scale if settings.simulated else 1.0,
        )  # fmt: skip
        self.add("engine", change(facts) if change else facts, node=start.split(".", maxsplit=1)[0], launch=start)

    def perf_done(self, unit: PerfUnit, start: str, change: PerfChange | None = None, attempt: int = 1) -> None:
        """A perf unit that came back."""
        target = next(t for t in self.settings.targets if t.name == unit.target)
        result = measurement(unit, simulated=engine_of(self.settings, target).kind == "simulated")
        result = change(unit, result) if change else result
        self.add("unit_done", result, key=unit.key, attempt=attempt, node=start.split(".", maxsplit=1)[0], launch=start)

    def checked(self, unit: CheckUnit, start: str, change: CheckChange | None = None, attempt: int = 1) -> None:
        """A preflight check that came back, by default a good one."""
        found = check_measurement(unit)
        found = change(found) if change else found
        node = start.split(".", maxsplit=1)[0]
        self.add("unit_done", found, key=unit.key, attempt=attempt, node=node, launch=start)

    def eval_done(self, unit: EvalUnit, start: str, change: SampleChange | None = None) -> None:
        """A block of samples that came back."""
        node = start.split(".", maxsplit=1)[0]
        for spec in unit.samples:
            sample = sample_record(unit, spec)
            self.add("sample", change(sample) if change else sample, key=spec.key, node=node, launch=start)
        done = EvalMeasurement(num_samples=len(unit.samples), duration_s=12.0)
        self.add("unit_done", done, key=unit.key, attempt=1, node=node, launch=start)

    def failed(self, key: str, failure: Failure, attempt: int | None = None, start: str = "n0.0") -> None:
        """An attempt that did not end well: by default the next one of its unit, since a (key, attempt) ends once."""
        ended = [r.attempt for r in self.records if r.key == key and r.kind in ("unit_done", "unit_failed")]
        if attempt is None or attempt in ended:
            attempt = len(ended) + 1
        self.add("unit_failed", failure, key=key, attempt=attempt, node=start.split(".", maxsplit=1)[0], launch=start)

    def end(self) -> None:
        """The last record of a session."""
        self.add("decision", Decision(what="end", reason="all units are done"))

    def view(self) -> RunView:
        """The records, folded."""
        return fold(self.records)

    def write(self, folder: Path) -> Path:
        """The records as a run folder."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = [record.model_dump_json(exclude_none=True) + "\n" for record in self.records]
        (folder / "ledger.jsonl").write_text("".join(lines))
        return folder


def whole_ledger(
    settings: RunConfig | None = None,
    *,
    perf: PerfChange | None = None,
    sample: SampleChange | None = None,
    engine: EngineChange | None = None,
    skip: Callable[[str], bool] = lambda key: False,
) -> LedgerBuilder:
    """A run in which everything came back, but for the units that `skip` names by key."""
    builder = LedgerBuilder(settings or config())
    builder.session()
    builder.planned()
    for number, target in enumerate(builder.settings.targets):
        builder.node(target.name, number)
        builder.engine(target.name, f"n{number}.0", engine)
    starts = {target.name: f"n{number}.0" for number, target in enumerate(builder.settings.targets)}
    for unit in builder.plan.units:
        if skip(unit.key):
            continue
        if isinstance(unit, PerfUnit):
            builder.perf_done(unit, starts[unit.target], perf)
        else:
            builder.eval_done(unit, starts[unit.target], sample)
    builder.end()
    return builder
