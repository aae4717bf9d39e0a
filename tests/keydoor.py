"""Records tests/keydoor.json from MiniGrid's DoorKey: what the agent sees, carries and gets, under random actions.

    pip install minigrid==3.2.0
    python tests/keydoor.py
"""

import json
import pathlib

import gymnasium
import minigrid  # noqa: F401: registers the environments
import numpy as np
from minigrid.core.constants import IDX_TO_OBJECT

# Classes of cells in Lucid: unseen, empty, wall, key, locked, closed and open door, goal.
CLASSES = {"unseen": 0, "empty": 1, "wall": 2, "key": 3, "goal": 7}
# Lucid's actions in MiniGrid's numbers: left, right, forward, pick up, toggle.
ACTIONS = [0, 1, 2, 3, 5]


def cell(kind, state):
    kind = IDX_TO_OBJECT[int(kind)]
    return [6, 5, 4][state] if kind == "door" else CLASSES[kind]


def view(observation):
    """Row by row as the agent looks ahead; its own cell (bottom, middle) is empty, whatever it carries."""
    cells = [[cell(*observation["image"][x, y, [0, 2]]) for x in range(7)] for y in range(7)]
    cells[6][3] = CLASSES["empty"]
    return "".join(str(c) for line in cells for c in line)


def record(size, seed, steps):
    env = gymnasium.make(f"MiniGrid-DoorKey-{size}x{size}-v0").unwrapped
    first, _ = env.reset(seed=seed)
    where = {}
    for x in range(size):
        for y in range(size):
            item = env.grid.get(x, y)
            if item is not None and item.type in ("key", "door"):
                where[item.type] = [x, y]
    agent, direction = [int(x) for x in env.agent_pos], int(env.agent_dir)
    out = {"size": size, "seed": seed, "agent": agent, "direction": direction, **where, "first": view(first), "steps": []}
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        action = int(rng.choice(5, p=[0.15, 0.15, 0.4, 0.15, 0.15]))
        observation, reward, terminated, truncated, _ = env.step(ACTIONS[action])
        carrying = int(env.carrying is not None)
        values = [action, view(observation), int(observation["direction"]), carrying, float(f"{reward:.9g}")]
        out["steps"].append([*values, int(terminated), int(truncated)])
        if terminated or truncated:
            break
    return out


if __name__ == "__main__":
    episodes = [record(*e) for e in [(5, 0, 250), (5, 1, 250), (5, 2, 250), (6, 3, 200), (8, 4, 200), (8, 5, 200)]]
    text = ",\n".join(json.dumps(e, separators=(",", ":")) for e in episodes)
    (pathlib.Path(__file__).parent / "keydoor.json").write_text(f"[\n{text}\n]\n")
