"""Forty questions that any healthy server answers: 20 integers and 20 choices, all text of our own.

They are asked in the very words in which aime25 and gpqa_diamond ask, so that a failure speaks of the server, its
template or the reading of answers, and not of the model: with at most 2 of 40 wrong, a server that is right in 98% of
them passes with probability .954, one that is right in 80% with .008.
"""

from collections.abc import Iterable

from raybench.evals import aime25, gpqa_diamond
from raybench.evals.base import Column, Eval, Extraction, Question, Row
from raybench.evals.presets import presets

MAX_TOKENS = 512
"""Limit of a canary's reply: a sentence or two of reasoning, then the answer."""
NUM_TEXTS = 16
_INTEGERS = (
    ("What is 7 + 5?", 12), ("What is 20 - 8?", 12), ("What is 6 times 4?", 24), ("What is 45 divided by 9?", 5),
    ("What is 100 + 23?", 123), ("How many days are in one week?", 7), ("How many minutes are in one hour?", 60),
    ("What is half of 50?", 25), ("What is twice 35?", 70), ("What is 9 squared?", 81),
    ("What is the next whole number after 99?", 100), ("How many sides does a triangle have?", 3),
    ("How many months are in one year?", 12), ("What is 3 + 4 + 5?", 12), ("What is 15 - 15?", 0),
    ("What is 11 times 10?", 110), ("How many legs do two dogs have together, four each?", 8),
    ("Anna has 3 pens and buys 6 more. How many pens has she now?", 9), ("What is the sum of 250 and 250?", 500),
    ("What is the larger of the numbers 14 and 41?", 41),
)  # fmt: skip
_CHOICES = (
    ("Which of these is a colour?", "blue", "table", "seven", "slowly"),
    ("Which of these is an animal?", "horse", "bottle", "Tuesday", "green"),
    ("What is 2 + 2?", "4", "3", "5", "22"),
    ("Which day comes right after Monday?", "Tuesday", "Friday", "Sunday", "Thursday"),
    ("At what temperature does water freeze at sea level?", "0 degrees Celsius", "40 degrees Celsius",
     "75 degrees Celsius", "100 degrees Celsius"),
    ("Which of these numbers is the largest?", "90", "19", "9", "60"),
    ("Which of these is a fruit?", "apple", "hammer", "cloud", "shoe"),
    ("What do people use to see?", "their eyes", "their elbows", "their knees", "their hair"),
    ("Which planet do we live on?", "Earth", "Mars", "Venus", "Jupiter"),
    ("Which of these is a vehicle?", "bus", "spoon", "tree", "pillow"),
    ("Which word is the opposite of hot?", "cold", "warm", "loud", "round"),
    ("Which of these can fly by itself?", "an eagle", "a chair", "a stone", "a fish tank"),
    ("Which season is the coldest in most of Europe?", "winter", "summer", "spring", "autumn"),
    ("What is 10 - 3?", "7", "13", "6", "30"),
    ("Which of these is a country?", "France", "banana", "Monday", "piano"),
    ("Which of these do you wear on your feet?", "socks", "gloves", "a hat", "a scarf"),
    ("Which shape is round?", "a circle", "a square", "a triangle", "a rectangle"),
    ("Which of these is a musical instrument?", "violin", "ladder", "carpet", "window"),
    ("Which of these can you drink?", "milk", "a brick", "a pencil", "a coat"),
    ("Which of these is made of frozen water?", "ice", "sand", "wood", "steel"),
)  # fmt: skip
_OPTIONS = ("correct", "incorrect_1", "incorrect_2", "incorrect_3")


def _rows() -> tuple[dict[str, str], ...]:
    integers = [
        {"id": f"canary-integer-{number:02d}", "question": question, "answer": str(answer)}
        for number, (question, answer) in enumerate(_INTEGERS, start=1)
    ]
    choices = [
        {"id": f"canary-choice-{number:02d}", "question": question} | dict(zip(_OPTIONS, options, strict=True))
        for number, (question, *options) in enumerate(_CHOICES, start=1)
    ]
    return (*integers, *choices)


def _ask(row: Row, repeat: int, run_seed: int) -> Question:
    if row.get("correct"):
        return gpqa_diamond.EVAL.ask(row, repeat, run_seed)
    return aime25.EVAL.ask({**row, "problem": row["question"]}, repeat, run_seed)


def _extract(reply: str, finish_reason: str | None) -> Extraction:
    """A letter where the reply states one, else an integer: no reply states both in the forms that are asked for."""
    letter = gpqa_diamond.EVAL.extract(reply, finish_reason)
    return letter if letter.value is not None else aime25.EVAL.extract(reply, finish_reason)


def _lenient(reply: str) -> Extraction:
    letter = gpqa_diamond.EVAL.lenient(reply)
    return letter if letter.value is not None else aime25.EVAL.lenient(reply)


EVAL = Eval(
    name="canary",
    default_rows=None,
    columns=(
        Column("question"),
        Column("answer", required=False),
        *(Column(name, required=False) for name in _OPTIONS),
        Column("id", required=False),
    ),
    answer_form="integer",
    min_max_tokens=MAX_TOKENS,
    synthetic=_rows,
    ask=_ask,
    extract=_extract,
    lenient=_lenient,
    presets=presets(report_max_tokens=MAX_TOKENS),
    canary_rows=_rows,
)


def fixed_texts() -> tuple[str, ...]:
    """Texts of some hundred tokens, the same on every machine: what log-probabilities are read on."""
    said = [f"{question} The answer is {answer}." for question, answer in _INTEGERS]
    said += [f"{question} It is {right}, and not {wrong}." for question, right, wrong, *_ in _CHOICES]
    return tuple(" ".join(said[(3 * start + step) % len(said)] for step in range(8)) for start in range(NUM_TEXTS))


def canary_questions(evaluations: Iterable[Eval], run_seed: int) -> tuple[tuple[str, Question], ...]:
    """(eval that reads the reply, question) of the canaries for these evals: their own, and the forty for the rest."""
    asked: dict[str, Eval] = {}
    for evaluation in evaluations:
        chosen = evaluation if evaluation.canary_rows is not None else EVAL
        asked.setdefault(chosen.name, chosen)
    return tuple(
        (chosen.name, chosen.ask(row, 0, run_seed))
        for chosen in asked.values()
        for row in (chosen.canary_rows or _rows)()
    )
