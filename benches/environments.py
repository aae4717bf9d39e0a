#!/usr/bin/env python3
"""Round trips of a step that does nothing but return a frame of 64 x 64 x 3, in another process: Lucid's and Gymnasium's.

    benches/environments.py target/release/lucid [--steps 10000] [--rounds 5]

Both run in turns on one environment, Lucid's with `lucid bench env`, Gymnasium's as AsyncVectorEnv with shared memory. Prints medians of a
step in microseconds. Needs Python 3.10 with gymnasium and numpy.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
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


gymnasium.register("Frame-v0", entry_point="environments:Frame")


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lucid")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rounds = [(lucid(args.lucid, args.steps), vector(args.steps)) for _ in range(args.rounds)]
    for ours, theirs in rounds:
        print(f"lucid {ours:.1f} us, AsyncVectorEnv {theirs:.1f} us")
    ours, theirs = (statistics.median(side) for side in zip(*rounds))
    print(f"medians: lucid {ours:.1f} us, AsyncVectorEnv {theirs:.1f} us")


if __name__ == "__main__":
    main()
