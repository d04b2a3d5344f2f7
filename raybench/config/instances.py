"""Machines of clouds with eight GPUs of one type: what a cluster file must say about them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Instance:
    """A type of machine."""

    cloud: Literal["aws", "gcp"]
    accelerator: str
    """Ray's name of the GPU."""
    num_gpus: int
    num_cpus: int
    only_hyperdisk: bool = False
    """It boots from no other kind of disk (Google Cloud)."""


INSTANCES = {
    "p5.48xlarge": Instance("aws", "H100", 8, 192),
    "p5e.48xlarge": Instance("aws", "H200", 8, 192),
    "p5en.48xlarge": Instance("aws", "H200", 8, 192),
    "p6-b200.48xlarge": Instance("aws", "B200", 8, 192),
    "p6-b300.48xlarge": Instance("aws", "B300", 8, 192),
    "a3-highgpu-8g": Instance("gcp", "H100", 8, 208),
    "a3-ultragpu-8g": Instance("gcp", "H200", 8, 224, only_hyperdisk=True),
    "a4-highgpu-8g": Instance("gcp", "B200", 8, 224, only_hyperdisk=True),
}
"""By the cloud's own name, from the clouds' pages of their machine types."""
