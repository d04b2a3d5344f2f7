"""Published rows that some configurations are shown beside: the study that this project grew from.

Qwen3-235B-A22B-Instruct-2507-FP8, SGLang 0.5.7, `--tp 8 --ep 2`, 4,096 tokens in and 512 out, one shot per batch size
(single passes without repeats: a row can be wrong, and batch 2 on the B200 is). Figures only.
"""

from raybench.report.model import ReferenceRow


def _rows(*lines: tuple[int, float, float, float, float]) -> tuple[ReferenceRow, ...]:
    return tuple(
        ReferenceRow(batch_size=b, input_tokens=4096, latency_s=s, input_tok_per_s=i, output_tok_per_s=o, itl_ms=t)
        for b, s, i, o, t in lines
    )


H200_ROWS = _rows(
    (1, 6.40, 26385.35, 81.99, 12.20),
    (2, 7.00, 31437.49, 151.93, 13.16),
    (4, 6.93, 32701.68, 318.48, 12.56),
    (8, 7.99, 33116.18, 584.96, 13.68),
    (16, 9.87, 33772.27, 1033.36, 15.48),
    (64, 19.32, 34194.00, 2812.81, 22.75),
)

B200_ROWS = _rows(
    (1, 4.00, 26133.71, 133.21, 7.51),
    (2, 4.76, 15315.43, 242.15, 8.26),
    (4, 5.02, 35009.27, 450.38, 8.88),
    (8, 5.75, 39924.55, 830.63, 9.63),
    (16, 7.23, 40704.06, 1458.53, 10.97),
    (64, 14.15, 41842.55, 4157.96, 15.39),
)

OUTPUT_TOKENS = 512
INPUT_TOKENS = 4096

_WHOLE = ("qwen3-235b-a22b-instruct-2507-fp8", "qwen3-235b-a22b-fp8")
_ONE_RANK = ("tp8-ep2-rank",)
_ROWS = {"H200": H200_ROWS, "B200": B200_ROWS}


def reference_for(
    model_path: str, accelerator: str, *, simulated: bool
) -> tuple[str, str, tuple[ReferenceRow, ...]] | None:
    """(label, caveat, rows) of the published rows for a model on an accelerator; None where there are none."""
    rows = _ROWS.get(accelerator.upper())
    name = model_path.rstrip("/").lower()
    if rows is None:
        return None
    label = f"published, 8 x {accelerator.upper()}"
    shot = "The published rows are single shots (SGLang 0.5.7, tensor parallel 8, expert parallel 2)."
    if name.endswith(_ONE_RANK):
        return label, f"One rank without communication: what one of eight GPUs computes, alone. {shot}", rows
    if name.endswith(_WHOLE):
        return label, f"{'Simulated here. ' if simulated else ''}{shot}", rows
    return None
