#!/usr/bin/env python3
"""Many actors on few cores: whether back-pressure holds, what lag they have, and whether memory stays what it is.

    benches/load.py target/release/lucid [--actors 64] [--envs 4] [--minutes 30] [--ratio 8]

size1m on cartpole_swingup from numbers. Prints a row a minute: steps and updates per second, the lag of actors in updates and seconds, the share
of time that actors waited for the learner, and memory: that of the learner and the launcher, and of all actors what is their own. Ends with status 1
if the run ended early, if the train ratio was not kept, or if memory or descriptors grew after a third of the time. Needs Python 3.8 and
nothing else.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

BATCH = 16 * 64  # Replayed steps of one update of size1m.


def children(parent):
    """Process ids below a process, with the word that says what each is."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int(re.search(r"\) . (\d+)", (entry / "stat").read_text()).group(1)) == parent:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    found[int(entry.name)] = words[1].decode() if len(words) > 1 else ""
            except (OSError, AttributeError):
                continue
    return found


def look(launcher):
    """Of launcher, learner and all actors: processes, descriptors, mappings, and memory of their own, MiB."""
    kinds = {"launcher": [0] * 4, "learner": [0] * 4, "actor": [0] * 4}
    for pid, kind in [(launcher, "launcher"), *children(launcher).items()]:
        try:
            files = len(os.listdir(f"/proc/{pid}/fd"))
            maps = pathlib.Path(f"/proc/{pid}/maps").read_text().count("\n")
            memory = re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
        except OSError:
            continue
        if memory and kind in kinds:
            row = (1, files, maps, int(memory.group(1)) / 1024)
            kinds[kind] = [a + b for a, b in zip(kinds[kind], row)]
    return kinds


def records(run):
    """What the run has recorded."""
    try:
        lines = pathlib.Path(run, "metrics.jsonl").read_text().splitlines()
    except OSError:
        return []
    return [json.loads(line) for line in lines if line.endswith("}")]


def row_of(found, seconds, kinds):
    """One line about the last minute."""
    part = [r for r in found if r["time"] > found[-1]["time"] - 60]
    span = max(part[-1]["time"] - part[0]["time"], 1e-3)
    rate = lambda key: (part[-1][key] - part[0][key]) / span
    mean = lambda key: sum(r.get(key) or 0 for r in part) / len(part)
    waited = sum(r.get("limiter/actors_wait") or 0 for r in part[1:])
    return (
        f"{seconds:>7.0f} {part[-1]['step']:>9} {rate('step'):>8.0f} {rate('update'):>9.2f} {mean('lag/updates/median'):>7.1f}"
        f" {mean('lag/updates/p95'):>6.1f} {max(r.get('lag/updates/max') or 0 for r in part):>6.0f} {mean('lag/seconds/p95'):>8.2f}"
        f" {100 * waited / span:>6.0f} % {kinds['learner'][3]:>8.0f} {kinds['launcher'][3]:>8.0f} {kinds['actor'][3]:>8.0f}"
    )


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("lucid")
parser.add_argument("--actors", type=int, default=64)
parser.add_argument("--envs", type=int, default=4)
parser.add_argument("--minutes", type=float, default=30)
parser.add_argument("--ratio", type=float, default=8)
args = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    run = os.path.join(folder, "run")
    sets = ["env.task=cartpole_swingup", "env.observe=vector", f"actor.envs={args.envs}", f"run.train_ratio={args.ratio}", "replay.size=20000"]
    command = [os.path.abspath(args.lucid), "train", "-c", "size1m", "--actors", str(args.actors), "--run", run]
    command += [word for text in sets for word in ("--set", text)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    rows, begin, due = [], time.monotonic(), 60.0
    print("seconds     steps  steps/s updates/s  lag: median    p95    max seconds  actors wait  learner launcher   actors, MiB")
    while (now := time.monotonic() - begin) < 60 * args.minutes and child.poll() is None:
        if now >= due and (found := records(run)):
            rows.append((found[-1]["step"], found[-1]["update"], look(child.pid)))
            print(row_of(found, now, rows[-1][2]), flush=True)
            due += 60.0
        time.sleep(0.5)
    ended_early = child.poll() is not None
    child.send_signal(signal.SIGINT)
    errors = child.communicate()[1]
    problems = [f"the run ended early: {errors[-2000:]}"] if ended_early else []
    if child.returncode:
        problems.append(f"the run ended with status {child.returncode}: {errors[-2000:]}")

third = len(rows) // 3
if third < 2:
    problems.append("too short to see growth: at least 6 minutes are needed")
else:
    (steps, updates, _), (later_steps, later_updates, _) = rows[third], rows[-1]
    ratio = (later_updates - updates) * BATCH / max(later_steps - steps, 1)
    print(f"train ratio {ratio:.2f} (asked {args.ratio:g})")
    if abs(ratio / args.ratio - 1) > 0.05:
        problems.append(f"the train ratio was {ratio:.2f}, not {args.ratio:g}")
    for kind in rows[0][2]:
        for i, (what, slack) in enumerate([("processes", 1.0), ("descriptors", 1.0), ("mappings", 1.02), ("MiB of memory", 1.02)]):
            early = max(row[2][kind][i] for row in rows[third : 2 * third])
            late = max(row[2][kind][i] for row in rows[-third:])
            if late > early * slack:
                problems.append(f"{kind}: {early:.1f} {what} became {late:.1f}")
print("\n".join(problems) or "back-pressure held, nothing grew")
sys.exit(bool(problems))
