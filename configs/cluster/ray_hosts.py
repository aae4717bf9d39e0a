"""A run of Lucid on a Ray cluster: the learner on one node, actors on others. See docs/hosts_ray.md.

    python ray_hosts.py --hosts 3 --actors 8 --run /shared/runs/first -- -c cartpole

What follows `--` goes to `lucid train`. Ctrl-C saves and ends; the same command goes on.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


class Program:
    """A program on a node of the cluster: what it prints is printed where the driver runs."""

    def __init__(self):
        self.process = None
        self.told = False

    def run(self, command):
        """Start it and wait for its end; returns how it ended."""
        if self.told:
            return 0
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in self.process.stdout:
            print(line, end="", flush=True)
        return self.process.wait()

    def end(self):
        """Have it save or send what it has, and end."""
        self.told = True
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


class Learner(Program):
    """`lucid train`."""

    def __init__(self, lucid, run, port):
        super().__init__()
        self.lucid, self.folder, self.port = lucid, run, port

    def train(self, options):
        listen = ["--set", f"hosts.listen=0.0.0.0:{self.port}"]
        return self.run([self.lucid, "train", "--run", self.folder, *listen, *options])

    def token(self, name):
        """What admits a host of this name; none while there is no run yet."""
        if not os.path.exists(os.path.join(self.folder, "hosts", "authority.toml")):
            return None
        address = f"{ray.util.get_node_ip_address()}:{self.port}"
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "token")
            command = [self.lucid, "host", "token", self.folder, "--name", name, "--join", address, "--out", path]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            with open(path) as file:
                return file.read()


class Host(Program):
    """`lucid host`."""

    def __init__(self, lucid, actors):
        super().__init__()
        self.lucid, self.actors = lucid, actors

    def host(self, token):
        # For its owner only, as is all in such a folder.
        with tempfile.TemporaryDirectory(prefix="lucid-host-") as folder:
            path = os.path.join(folder, "token")
            with open(path, "w") as file:
                file.write(token)
            logs = os.path.join(folder, "logs")
            return self.run([self.lucid, "host", "--token", path, "--folder", logs, "--actors", str(self.actors)])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, required=True, help="nodes beside the learner's")
    parser.add_argument("--actors", type=int, default=1, help="actors on each of them")
    parser.add_argument("--run", required=True, help="run folder, on a file system that every node has")
    parser.add_argument("--lucid", default="lucid", help="the binary, as every node finds it")
    parser.add_argument("--port", type=int, default=7447, help="UDP, on the learner's node; a run keeps its port")
    parser.add_argument("--learner-cpus", type=float, default=4, help="processors reserved for the learner")
    parser.add_argument("--address", default="auto", help="of the Ray cluster")
    parser.add_argument("options", nargs="*", help="for lucid train, after --")
    return parser.parse_args()


def place(program, group, bundle, *given, **options):
    """A program on the node of this bundle, all of whose processors are its own."""
    where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
    cpus = group.bundle_specs[bundle]["CPU"]
    # A second thread, so that it can be told to end while it runs.
    actor = ray.remote(program).options(num_cpus=cpus, scheduling_strategy=where, max_concurrency=2, **options)
    return actor.remote(*given)


def admit(learner, ended, name):
    """A token, as soon as there is a run; none if there will not be one."""
    while not (token := ray.get(learner.token.remote(name))):
        if ray.wait([ended], timeout=1)[0]:
            return None
    return token


def outcome(ended):
    """How a program ended."""
    try:
        return ray.get(ended)
    except ray.exceptions.RayError as error:
        return f"an error of Ray's: {error}"


def main():
    args = arguments()
    # As Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ray.init(address=args.address)
    bundles = [{"CPU": args.learner_cpus}] + [{"CPU": args.actors}] * args.hosts
    group = placement_group(bundles, strategy="STRICT_SPREAD")
    print(f"waiting for {len(bundles)} nodes with so many free processors: {bundles}", flush=True)
    ray.get(group.ready())
    learner = place(Learner, group, 0, args.lucid, args.run, args.port)
    ends, hosts = {"learner": learner.train.remote(args.options)}, []
    try:
        for number in range(1, args.hosts + 1):
            token = admit(learner, ends["learner"], f"ray-{number}")
            if token:
                # Started again on another node if its own is lost.
                hosts.append(place(Host, group, number, args.lucid, args.actors, max_restarts=-1, max_task_retries=-1))
                ends[f"ray-{number}"] = hosts[-1].host.remote(token)
        ray.wait([ends["learner"]])
    except KeyboardInterrupt:
        print("ending: the learner saves, and hosts end with it", flush=True)
        learner.end.remote()
        ray.wait([ends["learner"]])
    # Without a learner that tells them to, they would wait for another one.
    ray.wait(list(ends.values()), num_returns=len(ends), timeout=30)
    ray.wait([host.end.remote() for host in hosts], num_returns=len(hosts), timeout=30)
    outcomes = {name: outcome(ended) for name, ended in ends.items()}
    for name, how in outcomes.items():
        print(f"{name} ended with {how}", flush=True)
    sys.exit(any(outcomes.values()))


if __name__ == "__main__":
    main()
