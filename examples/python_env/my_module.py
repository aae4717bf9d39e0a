"""An environment of your own: lucid train --set env.task=gymnasium:my_module:Guess-v0, with this folder in PYTHONPATH."""
import gymnasium
import numpy as np


class Guess(gymnasium.Env):
    """Sees a number between -1 and 1 and says whether it is positive, ten times; 1 for each right answer."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # Makes self.np_random, the source of everything random.
        self.left = 10
        return self.look(), {}

    def step(self, action):
        reward = float((self.number > 0) == bool(action))
        self.left -= 1
        return self.look(), reward, self.left == 0, False, {}  # terminated, truncated, info

    def look(self):
        self.number = self.np_random.uniform(-1, 1)
        return np.array([self.number], np.float32)


gymnasium.register("Guess-v0", entry_point=Guess)
