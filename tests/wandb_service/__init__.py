"""W&B's service as far as our publisher talks to it, on loopback: what it would hold, and the faults that it can have.

It renders nothing, checks no permission and ignores filters. Made for wandb 0.31 and wandb-workspaces 0.4: an operation
that another version asks for lands in `unknown`, by name.
"""

from wandb_service.http import WandbService, serving
from wandb_service.store import ENTITY, Fault, StoredRun

__all__ = ["ENTITY", "Fault", "StoredRun", "WandbService", "serving"]
