"""A Ray cluster of two nodes on this machine, until the standard input ends. Prints its address."""

import os
import sys

# Where Ray keeps the address, too, in a folder that must be there.
os.environ["RAY_TMPDIR"] = sys.argv[1]
os.makedirs(os.path.join(sys.argv[1], "ray"), exist_ok=True)

from ray.cluster_utils import Cluster

node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={"temp_dir": sys.argv[1], **node})
cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
