"""The DeepMind Control Suite, from positions and velocities or from pixels."""
import ctypes
import os

import gymnasium
import numpy as np
from gymnasium import spaces

from lucid_env.spaces import Refused


def drawing():
    """What MuJoCo can draw with where there may be no screen."""
    for name, library in (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8")):
        try:
            ctypes.CDLL(library)
            return name
        except OSError:
            continue
    return "disabled"


os.environ.setdefault("MUJOCO_GL", drawing())  # Read when dm_control is imported.
from dm_control import suite

# From elsewhere too little of the body is seen.
CAMERAS = {"quadruped": 2}
PICTURE = (240, 320)


def make(task, observe, size, repeat, camera=-1):
    """`task`: domain and task, as in `walker_walk`; `ball_in_cup_catch` is also called `cup_catch`."""
    tasks = {f"{domain}_{name}": (domain, name) for domain, name in suite.ALL_TASKS}
    found = tasks.get("ball_in_" + task if task.startswith("cup_") else task)
    if found is None:
        raise Refused(f"dm_control's suite has no task `{task}`; it has {', '.join(sorted(tasks))}")
    return Control(*found, observe, size, repeat, camera)


class Control(gymnasium.Env):
    render_mode = "rgb_array"

    def __init__(self, domain, task, observe, size, repeat, camera):
        self.name, self.repeat, self.size = (domain, task), repeat, size
        self.pixels, self.vector = observe in ("pixels", "both"), observe in ("vector", "both")
        self.camera = CAMERAS.get(domain, 0) if camera == -1 else camera
        if self.pixels and os.environ["MUJOCO_GL"] == "disabled":
            raise Refused(
                "`env.observe` asks for pixels, and there is neither EGL nor OSMesa to draw them with: install libegl1 (Debian), "
                "or set MUJOCO_GL, or `--set env.observe=vector`"
            )
        self.load(None)
        seen = {}
        if self.vector:
            for key, spec in self.env.observation_spec().items():
                if 0 not in spec.shape:
                    seen[key.replace("/", "_")] = spaces.Box(-np.inf, np.inf, spec.shape, np.float32)
        if self.pixels:
            seen["image"] = spaces.Box(0, 255, (*size, 3), np.uint8)
        self.observation_space = spaces.Dict(seen)
        action = self.env.action_spec()
        low, high = (np.broadcast_to(end, action.shape).astype(np.float32) for end in (action.minimum, action.maximum))
        self.action_space = spaces.Box(low, high, dtype=np.float32)

    def load(self, seed):
        # A few tasks draw at random when they are built, too.
        self.env = suite.load(*self.name, task_kwargs={"random": seed})

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.load(seed)
        return self.seen(self.env.reset()), {}

    def step(self, action):
        reward = 0.0
        for _ in range(self.repeat):
            time_step = self.env.step(action)
            reward += time_step.reward
            if time_step.last():
                break
        ended = time_step.last() and time_step.discount == 0
        return self.seen(time_step), reward, ended, time_step.last() and not ended, {}

    def seen(self, time_step):
        values = {}
        if self.vector:
            values = {key.replace("/", "_"): np.asarray(value) for key, value in time_step.observation.items()}
        if self.pixels:
            values["image"] = self.env.physics.render(*self.size, camera_id=self.camera)
        return values

    def render(self):
        return self.env.physics.render(*PICTURE, camera_id=self.camera)

    def close(self):
        self.env.close()
