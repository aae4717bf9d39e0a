"""Records tests/cartpole_swingup.json from dm_control's cartpole swingup.

    pip install mujoco==3.17.0 dm-control==1.0.50
    python tests/cartpole_swingup.py
"""

import json
import pathlib

import numpy as np
from dm_control import suite

STEPS = 200


def actions(kind, rng):
    t = np.arange(STEPS)
    if kind == "random":
        return rng.uniform(-1, 1, STEPS)
    if kind == "swing":
        return np.sin(t / 12)
    if kind == "right":  # runs into the right end of the rail and stays pressed against it
        return np.ones(STEPS)
    return np.where(t < 60, -1.0, 0.3 * np.cos(t / 5))  # left end of the rail, then released


def record(kind, seed):
    env = suite.load("cartpole", "swingup", task_kwargs={"random": seed})
    env.reset()
    data = env.physics.data
    out = {"name": f"{kind}{seed}", "qpos": data.qpos.tolist(), "qvel": data.qvel.tolist(), "steps": []}
    for action in actions(kind, np.random.default_rng(seed)).astype(np.float32):
        step = env.step([float(action)])
        values = [action, *step.observation["position"], *step.observation["velocity"], step.reward]
        out["steps"].append([float(f"{x:.9g}") for x in values])
    return out


if __name__ == "__main__":
    episodes = [record(k, s) for s, k in enumerate(["random", "random", "swing", "swing", "right", "left"])]
    text = ",\n".join(json.dumps(e, separators=(",", ":")) for e in episodes)
    (pathlib.Path(__file__).parent / "cartpole_swingup.json").write_text(f"[\n{text}\n]\n")
