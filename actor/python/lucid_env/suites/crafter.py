"""Crafter: survive in a world of blocks, and achieve."""
import gymnasium
import numpy as np
from gymnasium import spaces

import crafter
from lucid_env.spaces import Refused
from lucid_env.suites import Repeat

PICTURE = (450, 450)


def make(task, observe, size, repeat):
    """`task`: `reward`, or `noreward`, in which all rewards are 0."""
    if task not in ("reward", "noreward"):
        raise Refused(f"Crafter has no task `{task}`; it has reward and noreward")
    if observe != "pixels":
        raise Refused(f"`env.observe` is {observe}: Crafter shows pixels only")
    return Repeat(Crafter(task == "reward", size), repeat)


class Crafter(gymnasium.Env):
    render_mode = "rgb_array"

    def __init__(self, reward, size):
        self.reward, self.size = reward, size
        self.load(None)
        self.observation_space = spaces.Box(0, 255, (*size, 3), np.uint8)
        self.action_space = spaces.Discrete(len(self.env.action_names))

    def load(self, seed):
        height, width = self.size
        self.env = crafter.Env(size=(width, height), reward=self.reward, seed=seed)

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.load(seed)
        return self.env.reset(), {}

    def step(self, action):
        image, reward, done, info = self.env.step(action)
        died = info["discount"] == 0
        return image, float(reward), died, done and not died, {}

    def render(self):
        return self.env.render(PICTURE)
