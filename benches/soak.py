#!/usr/bin/env python3
"""Whether a run with many Python environments leaks: processes, descriptors, shared memory, memory.

    benches/soak.py target/release/lucid --python ~/envs/bin/python3 [--minutes 10] [--task gymnasium:CartPole-v1]

Four actors with four environments each. Every few seconds one environment's process is killed or frozen, and starts again. Once a
quarter of the time has passed replay is full and everything has started; from then on nothing may grow. Prints a row twice a minute, and
ends with status 1 if something was left behind or grew. Needs Python 3.8 and nothing else.
"""

import argparse
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

ENVIRONMENTS = 16
GROWTH = 1.05  # Of memory between the second and the last quarter, in which both halves of a cycle of checkpoints are.


def processes(root):
    """Process ids below and with `root`, each with its kind: launcher, learner, actor, environment."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(re.search(r"\) . (\d+)", (entry / "stat").read_text()).group(1))
            except (OSError, AttributeError):
                continue
    found, fresh = {root: "launcher"}, [root]
    while fresh:
        fresh = [pid for pid, parent in parents.items() if parent in fresh and pid not in found]
        for pid in fresh:
            try:
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            kinds = [kind for kind in ("learner", "actor") if kind.encode() in words[1:3]]
            found[pid] = kinds[0] if kinds else "environment"
    return found


def look(root):
    """Of each kind of process: how many there are, their descriptors, and their memory of their own, MiB."""
    kinds = {kind: [0, 0, 0.0] for kind in ("launcher", "learner", "actor", "environment")}
    for pid, kind in processes(root).items():
        try:
            open_files = len(os.listdir(f"/proc/{pid}/fd"))
            memory = re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
        except OSError:
            continue
        if memory:
            kinds[kind][0] += 1
            kinds[kind][1] += open_files
            kinds[kind][2] += int(memory.group(1)) / 1024
    return kinds


def harm(root):
    """Kill or freeze one environment's process."""
    victims = [pid for pid, kind in processes(root).items() if kind == "environment"]
    if victims:
        try:
            os.kill(random.choice(victims), random.choice([signal.SIGKILL, signal.SIGSTOP]))
        except ProcessLookupError:
            pass


def grown(rows):
    """What is larger in the last quarter than in the second, each at its least."""
    quarter = len(rows) // 4
    early, late = rows[quarter : 2 * quarter], rows[-quarter:]
    for kind in rows[0]:
        least = [[min(row[kind][i] for row in part) for i in range(3)] for part in (early, late)]
        for i, what in enumerate(("processes", "descriptors", "MiB of memory")):
            bound = least[0][i] * GROWTH + 1.0 if i == 2 else least[0][i]
            if least[1][i] > bound:
                yield f"{kind}: {least[0][i]:.1f} {what} became {least[1][i]:.1f}"


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("lucid")
parser.add_argument("--python", default="python3")
parser.add_argument("--minutes", type=float, default=10)
parser.add_argument("--task", default="gymnasium:CartPole-v1")
args = parser.parse_args()

shared = set(os.listdir("/dev/shm"))
with tempfile.TemporaryDirectory() as folder:
    run = os.path.join(folder, "run")
    sets = [f"env.task={args.task}", f"env.python={args.python}", "env.timeout=10", "env.max_restarts=1000", "actor.envs=4", "run.train_ratio=1"]
    command = [os.path.abspath(args.lucid), "train", "-c", "dummy", "--actors", "4", "--run", run]
    command += [word for text in sets for word in ("--set", text)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    rows, all_pids, begin, next_row, next_harm = [], set(), time.monotonic(), 15.0, 20.0
    print(f"{'seconds':>7}  {'kind: processes, descriptors, MiB':}")
    while (now := time.monotonic() - begin) < 60 * args.minutes and child.poll() is None:
        all_pids |= set(processes(child.pid))
        if now >= next_harm:
            harm(child.pid)
            next_harm += 4.0
        if now >= next_row:
            rows.append(look(child.pid))
            text = "  ".join(f"{kind}: {n}, {files}, {memory:.1f}" for kind, (n, files, memory) in rows[-1].items())
            print(f"{now:>7.0f}  {text}", flush=True)
            next_row += 15.0
        time.sleep(0.5)
    ended_early = child.poll() is not None
    child.send_signal(signal.SIGINT)
    errors = child.communicate()[1]
    problems = [f"the run ended early: {errors[-2000:]}"] if ended_early else []
    if child.returncode:
        problems.append(f"the run ended with status {child.returncode}: {errors[-2000:]}")

alive = [pid for pid in all_pids if os.path.exists(f"/proc/{pid}")]
problems += [f"process {pid} is left" for pid in alive]
problems += [f"/dev/shm/{name} is left" for name in set(os.listdir("/dev/shm")) - shared]
problems += grown(rows) if len(rows) >= 8 else ["too short to see growth: at least 2 minutes are needed"]
most = max(row["environment"][0] for row in rows) if rows else 0
if most < ENVIRONMENTS:
    problems.append(f"only {most} of {ENVIRONMENTS} environments were seen")
print(f"{len(all_pids)} processes in all")
print("\n".join(problems) or "nothing leaked, nothing grew")
sys.exit(bool(problems))
