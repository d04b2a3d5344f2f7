"""Seconds to grade and sum up 20,000 samples on one core: `python tests/benchmarks/grading.py`.

Half are integers (625 questions, 16 repeats), half are letters (1,250 questions, 8 repeats), each at the end of 16,000
characters of work, as a model that thinks aloud writes them. Must stay under 10 s.
"""

import json
import time

from raybench.evals import EVALS
from raybench.evals.base import Eval
from raybench.evals.grade import outcomes
from raybench.evals.signs import signs
from raybench.records import SampleRecord
from raybench.stats.accuracy import score
from raybench.stats.rates import rates
from raybench.validity.accuracy import lenient_score

NUM_SAMPLES = 20_000
WORK = "We have $x^2 + 3x = 40$, so that {x} is \\frac{1}{2} of it. " * 270


def samples(name: str, num_questions: int, num_repeats: int) -> list[SampleRecord]:
    """Replies of which four in five are right, one in ten is wrong and one in ten in another form."""
    found: list[SampleRecord] = []
    for number in range(num_questions * num_repeats):
        question, repeat = divmod(number, num_repeats)
        gold = "ABCD"[question % 4] if name == "gpqa_diamond" else str(question)
        given = gold if number % 10 else "A" if name == "gpqa_diamond" else "1"
        form = f'{{"answer": "{given}"}}' if name == "gpqa_diamond" else f"\\boxed{{{given}}}"
        end = f"So the answer is {gold}." if number % 10 == 5 else form
        found.append(
            SampleRecord(
                key=f"{name}-{number}", unit="u", target="h200", eval=name, question=f"q{question}", repeat=repeat,
                status="ok", reply=WORK + end, finish_reason="stop", prompt_tokens=100, output_tokens=5_000,
                prompt_sha256="0" * 64, gold=gold, seed=number, sent_unix_s=0.0, duration_s=1.0,
            )
        )  # fmt: skip
    return found


def grade(evaluation: Eval, found: list[SampleRecord]) -> float | None:
    """Grade, score with both intervals, read leniently, and look for loops and other signs."""
    graded = outcomes(found, evaluation)
    figures = score(graded, set(graded))
    lenient_score(found, graded, evaluation)
    rates(signs(sample, evaluation, graded[sample.question, sample.repeat]) for sample in found)
    return figures.score


def measure() -> dict[str, float | None]:
    """CPU seconds for all samples, and the two scores."""
    integers, letters = samples("aime25", 625, 16), samples("gpqa_diamond", 1_250, 8)
    began = time.process_time()
    scores = [grade(EVALS["aime25"], integers), grade(EVALS["gpqa_diamond"], letters)]
    return {
        "num_samples": len(integers) + len(letters),
        "cpu_s": round(time.process_time() - began, 2),
        "aime25": scores[0],
        "gpqa_diamond": scores[1],
    }


if __name__ == "__main__":
    print(json.dumps(measure()))
