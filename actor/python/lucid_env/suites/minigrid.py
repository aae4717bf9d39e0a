"""MiniGrid: what lies ahead of the agent, and where it faces."""
import gymnasium
import numpy as np
from gymnasium import spaces

from lucid_env.spaces import Refused
from lucid_env.suites import Repeat
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.wrappers import RGBImgPartialObsWrapper

TILE = 8  # Pixels, height and width.


def make(task, observe, size, repeat, **kwargs):
    """`task`: an id, as in `MiniGrid-DoorKey-6x6-v0`. Keyword arguments are the environment's own."""
    if observe == "both":
        raise Refused("`env.observe` is both: of MiniGrid it is pixels or vector, which show the same")
    env = gymnasium.make(task, render_mode="rgb_array", disable_env_checker=True, **kwargs)
    env = RGBImgPartialObsWrapper(env, TILE) if observe == "pixels" else Cells(env)
    return Repeat(WithoutMission(env), repeat)


class Cells(gymnasium.ObservationWrapper):
    """Kind, colour and state of each cell in view, as classes."""

    def __init__(self, env):
        super().__init__(env)
        height, width, _ = env.observation_space["image"].shape
        # What the agent carries stands in its own cell; a cell's state may be a direction, of which there are four.
        counts = [len(OBJECT_TO_IDX), len(COLOR_TO_IDX), max(len(STATE_TO_IDX), 4)]
        others = {key: space for key, space in env.observation_space.items() if key != "image"}
        self.observation_space = spaces.Dict({**others, "cells": spaces.MultiDiscrete(np.tile(counts, height * width))})

    def observation(self, observation):
        others = {key: value for key, value in observation.items() if key != "image"}
        return {**others, "cells": observation["image"].reshape(-1).astype(np.int64)}


class WithoutMission(gymnasium.ObservationWrapper):
    """Agents read no text. In most environments the mission is always the same."""

    def __init__(self, env):
        super().__init__(env)
        kept = {key: space for key, space in env.observation_space.items() if key != "mission"}
        self.observation_space = spaces.Dict(kept)

    def observation(self, observation):
        return {key: value for key, value in observation.items() if key != "mission"}
