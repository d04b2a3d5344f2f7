"""Bodies of ledger records that need the configuration; all others are in `raybench.records`."""

from raybench.config.schema import RunConfig
from raybench.records import LoadUnit, Plan, Record

STOP_EVAL, STOP_REPEATS = "stop_eval", "stop_repeats"
"""`Decision.what` of the plan's rules: an eval is sick and ends; an eval has repeats enough."""


SEARCH_PROBE, SEARCH_END = "search_probe", "search_end"
"""`Decision.what` of a search: it asks for another probe; it has its answer, or cannot have one."""


ESTIMATE = "estimate"
"""`Decision.what` of what was predicted for a target before anything was started."""


class RunBody(Record):
    """First record of every session on a run folder (one at the start, one at each `--resume`)."""

    run_id: str
    """Id of the run, the same over all its sessions."""
    session: int
    """Number of the session, from 0; a resume adds one."""
    config: RunConfig
    """The resolved configuration."""
    config_digest: str
    """Hash of the resolved configuration."""
    raybench_version: str
    """Version of the driver."""
    ray_version: str
    """Ray of the driver."""
    python_version: str
    """Python of the driver."""
    cluster: str
    """Which cluster it is, in words, as printed on the first line."""
    command: tuple[str, ...]
    """Command line that reproduces the run, paths cut to their last part."""


class PlanBody(Record):
    """The plan, written once."""

    digest: str
    """Hash of units and rules."""
    plan: Plan
    """Units and rules."""


class Decision(Record):
    """Something the dispatcher or the driver decided or learned, kept as the oracle of what happened."""

    what: str
    """start_engine, stop_engine, engine_start_failed, node_lost, stop_eval, stop_repeats, search_probe,
    search_end, estimate, node_leaving, node_suspect, node_well, node_released, slot_lost, interrupted, end ..."""
    target: str | None = None
    """Target that it is about."""
    eval: str | None = None
    """Eval that it is about."""
    sweep: str | None = None
    """Search that it is about."""
    reason: str
    """Why, in words."""
    numbers: dict[str, float] = {}
    """Numbers that decided."""
    rule: str | None = None
    """Kind of the plan's rule that decided; None where no rule did."""
    dropped: tuple[str, ...] = ()
    """Keys of planned units that are not to be run because of it; one that ran already may still end."""
    added: tuple[LoadUnit, ...] = ()
    """Units that are to be run because of it, beside those of the plan."""
