"""Atari games, of the Arcade Learning Environment."""
import ale_py
import gymnasium
import numpy as np
from ale_py import roms
from gymnasium import spaces
from PIL import Image

from lucid_env.spaces import Refused

RED, GREEN = 0.299, 0.587
GRAY = np.array([RED, GREEN, 1 - (RED + GREEN)])
NOTHING = ale_py.Action.NOOP


def make(task, observe, size, repeat, **settings):
    """`task`: the name of a game, as in `pong` or `space_invaders`."""
    if observe != "pixels":
        raise Refused(f"`env.observe` is {observe}: Atari's games show pixels only")
    game = "jamesbond" if task == "james_bond" else task
    if game not in roms.get_all_rom_ids():
        raise Refused(f"ale-py has no game `{task}`; it has {', '.join(sorted(roms.get_all_rom_ids()))}")
    return Atari(game, size, repeat, **settings)


class Atari(gymnasium.Env):
    """
    sticky: with a chance of 1/4 the emulator takes the action before once more. gray: else in colours. actions: `all` 18, or those
    `needed` by the game. lives: a lost one is `unused`, or ends the episode (`reset`). noops: most frames without action at the start
    of an episode. pooling: of the last so many frames of an action each pixel is the brightest. length: most frames of an episode.
    """

    render_mode = "rgb_array"

    def __init__(
        self, game, size, repeat, sticky=True, gray=True, actions="all", lives="unused", noops=30, pooling=2, clip_reward=False, length=108_000
    ):
        for name, value, known in (("actions", actions, ("all", "needed")), ("lives", lives, ("unused", "reset"))):
            if value not in known:
                raise Refused(f"`env.kwargs.{name}` is {value}, must be one of: {', '.join(known)}")
        if pooling < 1:
            raise Refused("`env.kwargs.pooling` is 0, must be at least 1")
        self.game, self.size, self.repeat, self.sticky, self.gray = game, size, repeat, sticky, gray
        self.lives, self.noops, self.clip_reward, self.length = lives, noops, clip_reward, length
        self.load(None)
        self.actions = self.ale.getLegalActionSet() if actions == "all" else self.ale.getMinimalActionSet()
        self.frames, self.newest = np.zeros((pooling, *self.ale.getScreenDims(), 3), np.uint8), 0
        self.observation_space = spaces.Box(0, 255, (*size, 1 if gray else 3), np.uint8)
        self.action_space = spaces.Discrete(len(self.actions))

    def load(self, seed):
        self.random = np.random.default_rng(seed)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setInt("random_seed", int(self.random.integers(2**31)))
        self.ale.setFloat("repeat_action_probability", 0.25 if self.sticky else 0.0)
        self.ale.loadROM(roms.get_rom_path(self.game))

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.load(seed)
        self.ale.reset_game()
        for _ in range(self.random.integers(self.noops + 1)):
            self.ale.act(NOTHING)
            if self.ale.game_over():
                self.ale.reset_game()
        self.look()
        self.frames[:] = self.frames[self.newest]
        self.frame, self.left = 0, self.ale.lives()
        return self.seen(), {}

    def step(self, action):
        reward, ended = 0.0, False
        for turn in range(self.repeat):
            reward += self.ale.act(self.actions[action])
            self.frame += 1
            if turn >= self.repeat - len(self.frames):
                self.look()
            left, before = self.ale.lives(), self.left
            self.left = left
            ended = self.ale.game_over() or (self.lives == "reset" and 0 < left < before)
            if ended or self.frame >= self.length:
                break
        reward = float(np.sign(reward)) if self.clip_reward else reward
        return self.seen(), reward, ended, self.frame >= self.length and not ended, {}

    def look(self):
        self.newest = (self.newest + 1) % len(self.frames)
        self.ale.getScreenRGB(self.frames[self.newest])

    def seen(self):
        height, width = self.size
        image = np.asarray(Image.fromarray(self.frames.max(0)).resize((width, height), Image.BILINEAR))
        return (image * GRAY).sum(-1).astype(np.uint8)[..., None] if self.gray else image

    def render(self):
        return self.ale.getScreenRGB()
