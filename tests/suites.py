"""Writes suites.json: what the wrappers of the official DreamerV3 code show, and the library itself where it has none.

Run with the packages of docs/suites.md, those that the official code needs (elements, portal, gym==0.19.0), and PYTHONPATH at its checkout.
"""
import json
import os

os.environ.setdefault("MUJOCO_GL", "egl")
import ale_py
import gymnasium
import numpy as np
from dm_control import suite
from embodied.envs import atari, crafter, dmc, procgen
from minigrid.wrappers import RGBImgPartialObsWrapper

SEED = 5


class Emulator(ale_py.ALEInterface):
    """Takes the official wrapper's settings: today's ale-py wants text, and reads them when it loads a game."""

    def setLoggerMode(self, mode):
        pass

    def setInt(self, key, value):
        super().setInt(key.decode(), int(value))

    def loadROM(self, path):
        self.path = path
        super().loadROM(path)

    def setFloat(self, key, value):
        super().setFloat(key, value)
        super().loadROM(self.path)


class Library(type(atari)):
    ALEInterface, LoggerMode = Emulator, ale_py.LoggerMode


atari.ale_py = Library("ale_py")


class Gymnasium:
    """An environment of Gymnasium, of which the agent sees what `show` takes from its observation."""

    def __init__(self, env, show):
        self.env, self.show, self.seed = env, show, {"seed": SEED}
        self.act_space = {"action": type("Space", (), {"discrete": True, "high": self.env.action_space.n})}

    def step(self, action):
        if action["reset"]:
            (seen, _), reward, ended, cut = self.env.reset(**self.seed), 0.0, False, False
            self.seed = {}  # Later episodes go on from the first one's.
        else:
            seen, reward, ended, cut, _ = self.env.step(int(action["action"]))
        return {**self.show(seen), "reward": reward, "is_last": ended or cut, "is_terminal": ended}


def classic(name):
    return Gymnasium(gymnasium.make(name), lambda seen: {"vector": seen})


def minigrid(name):
    return Gymnasium(RGBImgPartialObsWrapper(gymnasium.make(name), 8), lambda seen: {"image": seen["image"]})


def control(domain, task, **settings):
    return dmc.DMC(suite.load(domain, task, task_kwargs={"random": SEED}), **settings)


def games(name, **settings):
    return atari.Atari(name, repeat=4, noops=30, seed=SEED, **settings)


CASES = {
    "dmc:walker_walk": (control("walker", "walk", repeat=2, image=False), 25),
    "dmc:ball_in_cup_catch": (control("ball_in_cup", "catch", repeat=1, image=False), 25),
    "atari:pong": (games("pong", size=(96, 96)), 300),
    "atari100k:breakout": (games("breakout", size=(64, 64), sticky=False, gray=False, actions="needed"), 300),
    "minigrid:MiniGrid-DoorKey-6x6-v0": (minigrid("MiniGrid-DoorKey-6x6-v0"), 300),
    "gymnasium:CartPole-v1": (classic("CartPole-v1"), 200),
    "gymnasium:LunarLander-v3": (classic("LunarLander-v3"), 60),
    "procgen:coinrun": (procgen.ProcGen("coinrun", size=(96, 96), rand_seed=SEED), 300),
    "procgen:starpilot": (procgen.ProcGen("starpilot", size=(64, 64), rand_seed=SEED), 300),
    # Its steps differ from process to process.
    "crafter:reward": (crafter.Crafter("reward", seed=SEED), 0),
}


def act(space, step):
    if space.discrete:
        return np.int32((step * step * 7 + step // 5) % int(np.max(space.high)))
    return np.array([(step * 7 + i * 3) % 11 / 5 - 1 for i in range(space.shape[0])], np.float32)


def digest(data):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def shown(seen):
    if "image" in seen:
        return digest(seen["image"].tobytes())
    flags = ("reward", "is_first", "is_last", "is_terminal")
    return {key: np.ravel(value).tolist() for key, value in sorted(seen.items()) if key not in flags and not key.startswith("log/")}


def play(env, steps):
    space = env.act_space["action"]
    seen = env.step({"action": act(space, 0), "reset": True})
    first, rewards, ends = shown(seen), 0.0, []
    for step in range(steps):
        seen = env.step({"action": act(space, step), "reset": False})
        rewards += float(seen["reward"])
        if seen["is_last"]:
            ends.append([step, bool(seen["is_terminal"])])
            seen = env.step({"action": act(space, 0), "reset": True})
    return {"steps": steps, "first": first, "last": shown(seen), "rewards": rewards, "ends": ends}


records = {name: play(*case) for name, case in CASES.items()}
with open(os.path.join(os.path.dirname(__file__), "suites.json"), "w") as file:
    lines = [f"{json.dumps(name)}: {json.dumps(record)}" for name, record in records.items()]
    file.write("{\n" + ",\n".join(lines) + "\n}\n")
