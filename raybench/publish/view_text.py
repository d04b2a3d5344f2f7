"""The words of the views: verdict, findings, ratio and accuracy tables, how to reproduce, in Markdown. Pure."""

from collections import Counter
from collections.abc import Sequence

from raybench.publish.comparison import Compared
from raybench.publish.content import Cell
from raybench.publish.differences import VERSIONS
from raybench.publish.joined import ACCURACY_COLUMNS, SPEED_COLUMNS
from raybench.publish.joined_serving import COLUMNS as SERVING_COLUMNS
from raybench.publish.joined_serving import METRICS as SERVING_METRICS
from raybench.publish.privacy import clean
from raybench.records import Finding

SHOWN_FINDINGS = 20
SHOWN_METRICS = ("output_tok_s", "input_tok_s", "itl_ms", "latency_s")


def summary(compared: Compared) -> str:
    """Verdict of every run folder, then the failed gates, then the findings: what to know before any number."""
    lines = [f"**{verdict}** · {name}" for name, verdict in compared.verdicts]
    if any(arm.target.simulated for arm in compared.arms):
        lines.append("**SIMULATED**: a timing model made these numbers; they say nothing about any hardware.")
    if len(compared.verdicts) > 1:
        lines += _other_versions(compared)
    for row in _rows(ACCURACY_COLUMNS, compared.accuracy.rows):
        if row["verdict"] in ("FAIL", "INCONCLUSIVE"):
            lines.append(
                f"**{row['verdict']}** · {row['eval']} on {row['target']}: {number(row['score'])} "
                f"[{number(row['ci_lo'])}, {number(row['ci_hi'])}], reference {number(row['baseline'])}"
            )
    times = Counter(_finding(finding) for finding in compared.findings)
    lines += [text if count == 1 else f"{text} ({count} times)" for text, count in list(times.items())[:SHOWN_FINDINGS]]
    if len(times) > SHOWN_FINDINGS:
        lines.append(f"and {len(times) - SHOWN_FINDINGS} more kinds of findings: table `tables/findings`")
    if not compared.findings:
        lines.append("No findings.")
    return "\n\n".join(lines)


def _other_versions(compared: Compared) -> list[str]:
    """Runs of other dates may be of other versions: a ratio says then as much about these."""
    _, _, *labels = compared.differences.columns
    found: list[str] = []
    for name, _, *values in compared.differences.rows:
        if name in VERSIONS:
            sides = ", ".join(f"{label}: {value or '-'}" for label, value in zip(labels, values, strict=True))
            found.append(f"**OTHER {str(name).upper()}** · {sides}")
    return found


def _finding(finding: Finding) -> str:
    about = f" ({finding.target})" if finding.target else ""
    return f"{finding.severity.upper()} · `{finding.code}`{about}: {clean(finding.advice)}"


def ratios(compared: Compared) -> str:
    """Ratios to the first arm, with the range over the repeats."""
    if not compared.speed.rows:
        return "No load point that two targets share."
    head = ["sweep", "batch", "target", *SHOWN_METRICS]
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in _rows(SPEED_COLUMNS, compared.speed.rows):
        place = (str(row["sweep"]), str(row["batch_size"]), str(row["target"]))
        cells.setdefault(place, {})[str(row["metric"])] = _ratio(row)
    body = [[*place, *(found.get(metric, "-") for metric in SHOWN_METRICS)] for place, found in cells.items()]
    note = (
        f"Ratio to {compared.arms[0].label} and its range over the repeats. Throughput: above 1 is better. "
        "Latency and ITL: below 1 is better."
    )
    return f"{note}\n\n{table(head, body)}"


def _ratio(row: dict[str, Cell]) -> str:
    if row["ratio"] is None:
        return f"- ({row['findings']})" if row["findings"] else "-"
    return f"{number(row['ratio'])} [{number(row['low'])}, {number(row['high'])}]"


def scores(compared: Compared) -> str:
    """Accuracy with intervals, references and paired differences."""
    if not compared.accuracy.rows:
        return "No evals."
    head = ["eval", "target", "n", "score", "95% interval", "reference", "gate", "difference", "95% interval"]
    body = [
        [
            str(row["eval"]), str(row["target"]), str(row["n"]), number(row["score"]),
            _interval(row["ci_lo"], row["ci_hi"]), number(row["baseline"]), str(row["verdict"] or "-"),
            _difference(row),
            _interval(row["difference_lo"], row["difference_hi"]),
        ]
        for row in _rows(ACCURACY_COLUMNS, compared.accuracy.rows)
    ]  # fmt: skip
    return f"Difference: to {compared.arms[0].label}, paired by question.\n\n{table(head, body)}"


def _difference(row: dict[str, Cell]) -> str:
    reason = row["not_compared"]
    return f"- ({reason})" if reason else number(row["difference"])


def _interval(low: Cell, high: Cell) -> str:
    return "-" if low is None else f"[{number(low)}, {number(high)}]"


def start_up(compared: Compared) -> str:
    """Phases of the first start of every arm."""
    starts = {arm.label: {p.name: p.duration_s for p in arm.startup[0].phases} for arm in compared.arms if arm.startup}
    names = list(dict.fromkeys(name for phases in starts.values() for name in phases))
    if not names:
        return "No engine start."
    body = [[name, *(number(phases.get(name)) for phases in starts.values())] for name in names]
    return table(["phase (s)", *starts], body)


def differences(compared: Compared) -> str:
    """Model, versions, hardware, what evals asked and how, and resolved engine arguments that differ."""
    if not compared.differences.rows:
        return "Same model, versions, hardware, prompts and sampling of the evals, and resolved engine arguments."
    _, _, *labels = compared.differences.columns
    return table(["", "", *labels], [[str(cell or "-") for cell in row] for row in compared.differences.rows])


def serving(compared: Compared) -> str:
    """Ratios of the serving loads, and what the searches found."""
    head = ["sweep", "x", "target", *SERVING_METRICS]
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in _rows(SERVING_COLUMNS, compared.serving.rows):
        place = (str(row["sweep"]), f"{row['x']:g}", str(row["target"]))
        cells.setdefault(place, {})[str(row["metric"])] = _ratio(row)
    body = [[*place, *(found.get(metric, "-") for metric in SERVING_METRICS)] for place, found in cells.items()]
    found = [
        [search.sweep, search.over, arm.label, number(search.found), number(search.broke_at), search.reason]
        for arm in compared.arms for search in arm.searches
    ]  # fmt: skip
    parts = ["x: users, requests per second or speed, as the sweep says."]
    if body:
        parts += [f"Ratio to {compared.arms[0].label} and its range over the runs.", table(head, body)]
    elif len(compared.arms) > 1:
        parts.append("No serving load that two targets share.")
    if found:
        parts.append(
            table(["search", "over", "target", "highest that kept the SLO", "lowest that broke it", ""], found)
        )
    return "\n\n".join(parts)


def reproduce(compared: Compared) -> str:
    """What to run to get it again."""
    names = [
        f"- `{name}`, plan `{digest}`" for (name, _), digest in zip(compared.verdicts, compared.digests, strict=True)
    ]
    return (
        "The resolved configuration is `config.json` in this comparison's artifact; the ledger that every number comes "
        f"from is beside it.\n\n{chr(10).join(names)}\n\n"
        "Save the configuration as `study.yaml` with your own paths, then `raybench run study.yaml`; `raybench plan "
        "study.yaml` must print the plan's hash."
    )


def number(value: Cell) -> str:
    """A figure with three significant digits or so."""
    if value is None or isinstance(value, str | bool):
        return "-" if value is None else str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *body]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in row) + " |" for row in rows
    )


def _rows(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[dict[str, Cell]]:
    return [dict(zip(columns, row, strict=True)) for row in rows]
