"""Whether an engine that an earlier session of the driver has left is the very one that is wanted, and answers."""

import time
from dataclasses import replace

from raybench.engine.base import Engine, Launch
from raybench.engine.http_json import FIRST_TOKEN, ask
from raybench.records import EngineFacts, StartUpPhase

ANSWER_LIMIT_S = 30.0
"""For the first token."""


def kept_facts(
    engine: Engine | None, facts: EngineFacts | None, made: Launch | None, wanted: Launch
) -> EngineFacts | None:
    """Facts of the engine as that of the start that is wanted; None where another must be started.

    `made`: what it was started for. The launches may differ in the id of the start alone, and where it was.
    """
    began = time.perf_counter()
    if engine is None or facts is None or made is None:
        return None
    if replace(wanted, start=made.start, folder=made.folder, host=made.host) != made or engine.death() is not None:
        return None
    url = f"{engine.url}/generate"
    if not ask(url, timeout_s=ANSWER_LIMIT_S, api_key=engine.api_key, content=FIRST_TOKEN).ok:
        return None
    total = StartUpPhase(name="total", duration_s=time.perf_counter() - began)
    return facts.model_copy(update={"start": wanted.start, "startup": (total,), "adopted_from": facts.start})
