"""A Ray cluster of fake nodes in a process of its own: `python fake_nodes.py H200 H200 B200`.

Prints the address, then takes lines: a kind adds a node of that kind; the end of the input ends the cluster.
"""

import json
import sys

from ray.cluster_utils import Cluster


def add(cluster: Cluster, kind: str) -> None:
    """A machine with eight GPUs that it does not have."""
    cluster.add_node(
        wait=False, num_cpus=1, num_gpus=8, resources={f"accelerator_type:{kind}": 1},
        labels={"ray.io/accelerator-type": kind}, object_store_memory=80 << 20,
    )  # fmt: skip


def main() -> None:
    head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for kind in sys.argv[1:]:
        add(cluster, kind)
    cluster.wait_for_nodes()
    print(json.dumps({"address": cluster.address}), flush=True)
    for line in sys.stdin:
        add(cluster, line.strip())
    cluster.shutdown()


if __name__ == "__main__":
    main()
