#!/usr/bin/env python3
"""Environments in other processes: what a round trip takes, and what a slow one costs the others. Needs Python 3.10 with gymnasium and numpy.

    benches/environments.py target/release/lucid [--steps 10000] [--rounds 5]

Round trips of a step that does nothing but return a frame of 64 x 64 x 3, Lucid's and Gymnasium's. Both run in turns on one environment,
Lucid's with `lucid bench env`, Gymnasium's as AsyncVectorEnv with shared memory. Prints medians of a step in microseconds.

    benches/environments.py target/release/lucid --uneven [--seconds 15] [--rounds 3]

Whole runs of one actor with 8 environments whose steps take 2 ms, and 20 ms in one of them, or nothing at all, for several
`actor.wait_for`. Prints medians of environment steps per second: of all, of the slow one, and of each of the others.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import gymnasium
import numpy as np


class Frame(gymnasium.Env):
    """Always the same frame."""

    observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)
    frame = np.zeros((64, 64, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        return self.frame, {}

    def step(self, action):
        return self.frame, 0.0, False, False, {}


class Uneven(gymnasium.Env):
    """Its step takes some milliseconds, and ten times as many for the first to be reset in a folder: the learner makes one to look at."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, folder, milliseconds):
        self.slow, self.milliseconds, self.seconds = pathlib.Path(folder, "slow"), milliseconds, None

    def reset(self, *, seed=None, options=None):
        if self.seconds is None:
            self.seconds = self.milliseconds / 1e3
            try:
                self.slow.touch(exist_ok=False)
                self.seconds *= 10
            except FileExistsError:
                pass
        return np.zeros(4, np.float32), {}

    def step(self, action):
        if self.seconds:
            time.sleep(self.seconds)
        return np.zeros(4, np.float32), 0.0, False, False, {}


if __name__ != "__main__":  # Here it is imported by that name once more.
    gymnasium.register("Frame-v0", entry_point="environments:Frame")
    gymnasium.register("Uneven-v0", entry_point="environments:Uneven", disable_env_checker=True)


def lucid(binary, steps):
    sets = ["env.task=gymnasium:environments:Frame-v0", f"env.python={sys.executable}", "env.size=[64, 64]"]
    command = [binary, "bench", "env", "--json", "--steps", str(steps)]
    command += [word for text in sets for word in ("--set", text)]
    folder = str(pathlib.Path(__file__).resolve().parent)
    output = subprocess.run(command, env=os.environ | {"PYTHONPATH": folder}, stdout=subprocess.PIPE, check=True)
    return json.loads(output.stdout)["median_us"]


def vector(steps):
    env = gymnasium.vector.AsyncVectorEnv([lambda: gymnasium.make("environments:Frame-v0", disable_env_checker=True)])
    env.reset()
    actions, times = np.zeros(1, np.int64), []
    for _ in range(steps):
        start = time.perf_counter()
        env.step(actions)
        times.append(time.perf_counter() - start)
    env.close()
    return 1e6 * statistics.median(times)


def uneven(binary, milliseconds, wait_for, seconds):
    """Steps per second of all environments, and of the slowest by the fastest."""
    with tempfile.TemporaryDirectory() as folder:
        sets = ["env.task=gymnasium:environments:Uneven-v0", f"env.python={sys.executable}", "run.train_ratio=0.05", "web.enabled=false"]
        sets += ["actor.envs=8", f"actor.wait_for={wait_for}", f"env.kwargs.folder={folder}", f"env.kwargs.milliseconds={milliseconds}"]
        command = [binary, "train", "-c", "dummy", "--actors", "1", "--run", f"{folder}/run", "--minutes", str((seconds + 6) / 60)]
        command += [word for text in sets for word in ("--set", text)]
        path = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).resolve().parent)}
        subprocess.run(command, env=path, stdout=subprocess.DEVNULL, check=True)
        records = [json.loads(line) for line in pathlib.Path(folder, "run/metrics.jsonl").read_text().splitlines()]
    records = [record for record in records if "lag/acting/median" in record and record["time"] >= records[-1]["time"] - seconds]
    first, last = records[0], records[-1]
    rate = (last["env/steps"] - first["env/steps"]) / (last["time"] - first["time"])
    return rate, statistics.mean(record.get("acting/slowest", 1.0) for record in records)


def compare_uneven(args):
    for milliseconds in [2, 0]:
        print(f"{milliseconds} ms a step" + (f", one {10 * milliseconds} ms" if milliseconds else ""))
        waits = [0, 1, 4]
        rounds = [[uneven(args.lucid, milliseconds, wait_for, args.seconds) for wait_for in waits] for _ in range(args.rounds)]
        for wait_for, found in zip(waits, zip(*rounds)):
            rate, slowest = (statistics.median(side) for side in zip(*found))
            fast = rate / (7 + slowest)
            rates = " ".join(f"{rate:.0f}" for rate, _ in found)
            print(f"  wait_for {wait_for}: {rate:.0f} steps/s, the slow one {slowest * fast:.0f}, each other one {fast:.0f} (rounds: {rates})")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lucid")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--uneven", action="store_true")
    parser.add_argument("--seconds", type=float, default=15)
    args = parser.parse_args()
    if args.uneven:
        return compare_uneven(args)
    rounds = [(lucid(args.lucid, args.steps), vector(args.steps)) for _ in range(args.rounds)]
    for ours, theirs in rounds:
        print(f"lucid {ours:.1f} us, AsyncVectorEnv {theirs:.1f} us")
    ours, theirs = (statistics.median(side) for side in zip(*rounds))
    print(f"medians: lucid {ours:.1f} us, AsyncVectorEnv {theirs:.1f} us")


if __name__ == "__main__":
    main()
