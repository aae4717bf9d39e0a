"""Records tests/pendulum.json from Gymnasium's Pendulum-v1 and dm_control's pendulum swingup.

    pip install gymnasium==1.4.0 mujoco==3.17.0 dm-control==1.0.50
    python tests/pendulum.py
"""

import json
import pathlib

import gymnasium
import numpy as np
from dm_control import suite

STEPS = 200


def torques(kind, bound, rng):
    t = np.arange(STEPS)
    if kind == "random":
        return rng.uniform(-bound, bound, STEPS)
    if kind == "swing":
        return bound * np.sin(t / 9)
    return np.full(STEPS, bound)  # turns ever faster, to the greatest speed where there is one


def row(torque, observation, reward):
    return [float(f"{x:.9g}") for x in [torque, *observation, reward]]


def pendulum(kind, seed):
    env = gymnasium.make("Pendulum-v1").unwrapped
    env.reset(seed=seed)
    angle, velocity = env.state.tolist()
    out = {"task": "pendulum", "kind": kind, "angle": angle, "velocity": velocity, "steps": []}
    for torque in torques(kind, 2, np.random.default_rng(seed)).astype(np.float32):
        observation, reward, *_ = env.step(np.array([torque], np.float64))
        out["steps"].append(row(torque, observation, reward))
    return out


def pendulum_swingup(kind, seed):
    env = suite.load("pendulum", "swingup", task_kwargs={"random": seed})
    env.reset()
    data = env.physics.data
    if kind == "swing":  # starts where the reward is paid, and leaves
        with env.physics.reset_context():
            data.qpos[:] = 0.02
    out = {"task": "pendulum_swingup", "kind": kind, "angle": data.qpos[0], "velocity": data.qvel[0], "steps": []}
    for torque in torques(kind, 1, np.random.default_rng(seed)).astype(np.float32):
        step = env.step([float(torque)])
        observation = [*step.observation["orientation"], *step.observation["velocity"]]
        out["steps"].append(row(torque, observation, step.reward))
    return out


if __name__ == "__main__":
    kinds = ["random", "swing", "constant"]
    episodes = [record(k, s) for record in [pendulum, pendulum_swingup] for s, k in enumerate(kinds)]
    text = ",\n".join(json.dumps(e, separators=(",", ":")) for e in episodes)
    (pathlib.Path(__file__).parent / "pendulum.json").write_text(f"[\n{text}\n]\n")
