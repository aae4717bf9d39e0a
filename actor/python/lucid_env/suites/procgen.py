"""Procgen: sixteen games, whose levels are drawn anew for each episode."""
import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image

from lucid_env.spaces import Refused
from lucid_env.suites import Repeat
from procgen import ProcgenGym3Env
from procgen.env import ENV_NAMES

OWN = (64, 64)  # What the games draw for agents; any other size is made from the large picture for people.
EARLY = -1  # The action that ends an episode before its end.


def make(task, observe, size, repeat, **kwargs):
    """`task`: a game, as in `coinrun`. Keyword arguments are the games' own, such as `distribution_mode`."""
    if task not in ENV_NAMES:
        raise Refused(f"Procgen has no game `{task}`; it has {', '.join(ENV_NAMES)}")
    if observe != "pixels":
        raise Refused(f"`env.observe` is {observe}: Procgen shows pixels only")
    return Repeat(Procgen(task, size, kwargs), repeat)


class Procgen(gymnasium.Env):
    render_mode = "rgb_array"

    def __init__(self, game, size, kwargs):
        self.game, self.size, self.kwargs = game, size, kwargs
        self.load(None)
        self.observation_space = spaces.Box(0, 255, (*size, 3), np.uint8)
        self.action_space = spaces.Discrete(self.env.ac_space.eltype.n)

    def load(self, seed):
        drawn = {} if self.size == OWN else {"render_mode": "rgb_array"}
        self.env = ProcgenGym3Env(num=1, num_threads=0, env_name=self.game, rand_seed=seed, **drawn, **self.kwargs)

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.load(seed % 2**31)
        _, _, begins = self.env.observe()
        if not begins[0]:
            self.env.act(np.array([EARLY]))
        return self.seen(), {}

    def step(self, action):
        """A game begins its next episode by itself: the last observation is that episode's first, as in the official code."""
        self.env.act(np.array([action]))
        reward, _, begins = self.env.observe()
        return self.seen(), float(reward[0]), bool(begins[0]), False, {}

    def seen(self):
        if self.size == OWN:
            return self.env.observe()[1]["rgb"][0]
        height, width = self.size
        return np.asarray(Image.fromarray(self.render()).resize((width, height), Image.Resampling.BILINEAR))

    def render(self):
        if self.size == OWN:
            return self.env.observe()[1]["rgb"][0]
        return self.env.get_info()[0]["rgb"]
