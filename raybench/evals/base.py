"""What an eval is: where its rows come from, how a row becomes a question, and how a reply becomes an answer.

Pure. Rows are read by `raybench.evals.rows`; graded outcomes are made by `raybench.evals.grade`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from raybench.config.evals import Preset
from raybench.records import Message, content_hash

Method = Literal["boxed", "json", "answer_line", "prose", "none"]
"""Form in which a reply stated its answer; none = nothing that can be read. Only a lenient reading knows prose."""

AnswerForm = Literal["integer", "letter", "math", "exact"]
"""What an answer is: an integer, one of the shown letters, a short LaTeX expression, or a text."""

BOX_REQUEST = "Please reason step by step, and put your final answer within \\boxed{}."
"""The sentence that the Qwen3 model cards recommend for mathematics, so that their published scores compare."""

Row = Mapping[str, str]
"""One row under the eval's own column names; every value is text."""


@dataclass(frozen=True, slots=True)
class Rows:
    """An eval's rows as they were read, never empty."""

    rows: tuple[dict[str, str], ...]
    """Rows in the order of the source, holding only the columns that the eval knows, under the eval's names."""
    source: str
    """Where they came from: `built-in`, `synthetic`, `hub:OWNER/NAME` or a file's name without its folder."""
    sha256: str
    """SHA-256 over `rows`: the same rows have the same hash whether they came as CSV, Parquet or JSONL."""
    notes: tuple[str, ...] = ()
    """What a user should know about them before the run; never their text."""


@dataclass(frozen=True, slots=True)
class HubSource:
    """A data set on the hub."""

    repo: str
    """Hub id, `owner/name`."""
    split: str
    """Split that holds the questions."""
    config: str | None = None
    """Configuration of the data set; None where it has one only."""
    gated: bool = False
    """True: its owners want their terms accepted and a token sent."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that an eval reads."""

    name: str
    """The eval's own name for it."""
    aliases: tuple[str, ...] = ()
    """Names in the sources that are known to differ; case is ignored."""
    required: bool = True
    """False: rows without it are usable."""
    source: str | None = None
    """The one name that it has in the source; None = its own name or an alias."""


@dataclass(frozen=True, slots=True)
class Question:
    """A row as one repeat shows it."""

    question: str
    """Stable id of the question."""
    messages: tuple[Message, ...]
    """Rendered messages."""
    gold: str
    """The right answer in the form in which `Extraction.value` gives answers."""
    letter_order: tuple[int, ...] | None = None
    """Evals with shuffled options: place of each shown option (0 is the right one); None for others."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a reply gives as its answer."""

    value: str | None
    """The answer in normal form (an integer as text, a letter A to D); None = none that can be read."""
    method: Method
    """Form in which it stood; with `value` None, the form of the answer that could not be read."""
    span: tuple[int, int] | None
    """Start and end of its text in the reply; None when there is none."""


NO_ANSWER = Extraction(None, "none", None)


@dataclass(frozen=True, slots=True)
class Eval:
    """One accuracy evaluation. A new one is a new file with such a value, and a line in `raybench.evals.EVALS`."""

    name: str
    """Name in configurations, with underscores."""
    default_rows: HubSource | None
    """Where `rows: default` reads; None = the rows are made by code (`synthetic`)."""
    columns: tuple[Column, ...]
    """Columns that it reads."""
    answer_form: AnswerForm
    """What an answer is."""
    min_max_tokens: int
    """Smallest `sampling.max_tokens` that leaves room for the replies of current models on its real rows."""
    synthetic: Callable[[], tuple[dict[str, str], ...]] = field(repr=False)
    """Makes stand-in rows, as many as the real source has, with text of our own."""
    ask: Callable[[Row, int, int], Question] = field(repr=False)
    """(row, repeat, run seed) -> question. Raises RowsError when the row's answer is not what the eval asks for."""
    extract: Callable[[str, str | None], Extraction] = field(repr=False)
    """(reply, finish reason) -> the answer that the reply gives. Never raises."""
    lenient: Callable[[str], Extraction] = field(repr=False)
    """Whole reply -> the answer that a reader who overlooks the format would take. Never counts. Never raises."""
    presets: Mapping[str, Preset] = field(repr=False)
    """Sampling settings and default repeats by name (`evals[].preset`)."""
    typical_tokens: int = 1000
    """Rough length of a current model's answer, for estimates and for the order of work where no earlier run is known;
    no result depends on it."""
    letters: str = ""
    """Letters of the most options that a question can have, which are shuffled; empty where nothing is."""
    agree: Callable[[str, str], bool | None] = field(default=str.__eq__, repr=False)
    """(answer, gold) -> are they the same? None = it cannot be told, and the answer counts as unparsed."""
    num_rows: int | None = None
    """Rows that the real source has; rows of another number are refused. None = not checked."""
    known_files: frozenset[str] = frozenset()
    """SHA-256 of local files that are known to hold the real rows; another file earns a note. Empty = not checked."""
    canary_rows: Callable[[], tuple[dict[str, str], ...]] | None = field(default=None, repr=False)
    """Rows of its own that any healthy server answers, for the preflight; None = those of the `canary` eval."""


def question_id(row: Row, text_column: str) -> str:
    """The row's own id, or where it has none a hash of its text, which no re-ordering of the rows changes."""
    given = row.get("id", "").strip()
    return given or f"q-{content_hash(row[text_column], 12)}"
