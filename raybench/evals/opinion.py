r"""`python -m raybench.evals.opinion ASKED ANSWERED`: math-verify's opinion, in a process that may be killed.

math-verify evaluates what a model wrote: `2^{10^{10}}` can freeze it beyond the reach of its own time limits, which
work by signals and in a main thread only. So it runs here, alone, with a limit on its memory, and says after every
reply what it thinks: whoever started it kills it when it stands still, and goes on with the next reply.

ASKED holds a JSON object a line: `number`, `reply`, `gold`. ANSWERED gets one a line: `ready`, then `number` and
`right` (true, false, or null where math-verify reads nothing).
"""

import json
import logging
import resource
import sys
from pathlib import Path

MAX_MEMORY_BYTES = 4 << 30


def main(asked: Path, answered: Path) -> None:
    """Judge every reply in `asked`."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    import math_verify  # noqa: F401, PLC0415  # pyright: ignore[reportMissingImports] - an extra; `ready` follows it

    with asked.open(encoding="utf-8", newline="\n") as questions, answered.open("w", encoding="utf-8") as answers:
        answers.write('{"ready": true}\n')
        answers.flush()
        for line in questions:
            question = json.loads(line)
            right = _right(question["reply"], question["gold"])
            answers.write(json.dumps({"number": question["number"], "right": right}) + "\n")
            answers.flush()


def _right(reply: str, gold: str) -> bool | None:
    from math_verify import parse, verify  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    try:
        expected, given = parse(f"${gold}$"), parse(reply)
        return bool(verify(expected, given)) if expected and given else None
    except Exception:  # noqa: BLE001 - of sympy, of antlr, of memory: whatever it is, there is no opinion
        return None


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
