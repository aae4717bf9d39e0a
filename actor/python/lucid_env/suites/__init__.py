"""Suites of environments, with the settings of the official DreamerV3 code; docs/suites.md says which these are."""
import importlib

import gymnasium

# Modules of this package, and the settings in which a suite differs from the module's own.
SUITES = {
    "atari": ("atari", {}),
    "atari100k": ("atari", {"sticky": False, "gray": False, "actions": "needed"}),
    "crafter": ("crafter", {}),
    "dmc": ("dmc", {}),
    "minigrid": ("minigrid", {}),
    "procgen": ("procgen", {}),
}


def make(suite, task, kwargs):
    """The environment of a task. `suite`: its `name`, and `observe`, `size` and `repeat` of the config."""
    module, settings = SUITES[suite["name"]]
    module = importlib.import_module(f"lucid_env.suites.{module}")
    return module.make(task, suite["observe"], tuple(suite["size"]), suite["repeat"], **{**settings, **kwargs})


class Repeat(gymnasium.Wrapper):
    """Takes each action several times, or until the episode ends: the last observation, the sum of the rewards."""

    def __init__(self, env, repeat):
        super().__init__(env)
        self.repeat = repeat

    def step(self, action):
        total = 0.0
        for _ in range(self.repeat):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += reward
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info
