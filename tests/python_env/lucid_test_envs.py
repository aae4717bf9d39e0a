"""Environments for tests of the bridge to Gymnasium."""
import os
import pathlib
import signal
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces

print("an import may print")


class Faulty(gymnasium.Env):
    """Counts its steps, ten an episode, and has one fault in one phase, once for each folder (again and again without)."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Dict({"count": spaces.Box(-1, 100, (2,), np.float32), "die": spaces.Discrete(6, start=1)})
    action_space = spaces.Discrete(3)

    def __init__(self, phase="none", fault="", folder="", render_mode=None):
        self.render_mode, self.phase, self.fault, self.folder = render_mode, phase, fault, folder
        self.count = 0
        print("so may an environment")
        os.write(1, b"in any way\n")
        self.act("hello")

    def act(self, phase):
        """Whether the fault is due in this phase; those that end or stop the process do so here."""
        if phase != self.phase:
            return False
        if self.folder:
            try:  # whichever process makes the file has the fault
                pathlib.Path(self.folder, "done").touch(exist_ok=False)
            except FileExistsError:
                return False
        print("a last word of", self.fault, file=sys.stderr)
        match self.fault:
            case "raise":
                raise ValueError("the reactor is too hot")
            case "exit":
                sys.exit(7)
            case "die":
                os._exit(7)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "hang":
                time.sleep(1e6)
        return True

    def look(self, phase):
        value = {"count": np.array([self.count, 0.5], np.float32), "die": 3}
        if self.fault != "reward" and self.act(phase):
            count = value["count"]
            match self.fault:
                case "nan":
                    count[1] = np.nan
                case "shape":
                    value["count"] = count[None]
                case "dtype":
                    value["count"] = count.astype(complex)
                case "class":
                    value["die"] = 7
                case "key":
                    del value["count"]
                case "tuple":
                    value = "nothing"
        return value

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.look("reset"), {}

    def step(self, action):
        self.count += 1
        value = self.look("step" if self.count == 3 else "")
        reward = float("nan") if self.fault == "reward" and self.count == 3 and self.act("step") else 1.0
        return value, reward, self.count == 10, False, {}

    def render(self):
        if self.act("render"):
            return np.zeros((2, 2), np.uint8)
        return np.full((4, 6, 3), self.count, np.uint8)

    def close(self):
        self.act("close")


class Mixed(gymnasium.Env):
    """All kinds of spaces, nested, with a gray image on request; shows the last action as numbers."""

    observation_space = spaces.Dict({
        "camera": spaces.Dict({
            "left": spaces.Box(0, 255, (48, 32, 3), np.uint8),
            "gray": spaces.Box(0, 255, (48, 32), np.uint8),
        }),
        "state": spaces.Tuple((spaces.Box(-np.inf, np.inf, (3,), np.float64), spaces.Discrete(4, start=-1))),
        "deep": spaces.Box(-1, 1, (2, 2, 2), np.float32),
        "multi": spaces.MultiDiscrete([3, 5]),
        "bits": spaces.MultiBinary(4),
        "echo": spaces.Box(-100, 100, (9,), np.float32),
    })
    action_space = spaces.Dict({
        "arm": spaces.Box(np.array([-1, 0], np.float32), np.array([1, 10], np.float32)),
        "count": spaces.Box(-2, 2, (1,), np.int64),
        "key": spaces.Discrete(3, start=5),
        "pair": spaces.Tuple((spaces.MultiDiscrete([2, 4]), spaces.MultiDiscrete([3, 3]))),
        "flag": spaces.MultiBinary(1),
    })

    def __init__(self, gray=False):
        if not gray:
            camera = spaces.Dict({"left": self.observation_space["camera"]["left"]})
            self.observation_space = spaces.Dict({**self.observation_space.spaces, "camera": camera})

    def look(self, echo):
        return {
            "camera": {"left": np.full((48, 32, 3), 7, np.uint8), "gray": np.arange(48 * 32).reshape(48, 32).astype(np.uint8)},
            "state": (np.array([0.5, -2, 1e3]), np.int64(-1)),
            "deep": np.arange(8, dtype=np.float32).reshape(2, 2, 2) / 8,
            "multi": np.array([2, 4]),
            "bits": np.array([True, False, False, True]),
            "echo": np.array(echo, np.float32),
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.look([0] * 9), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        (odd, even), self.count = action["pair"], self.count + 1
        echo = [*action["arm"], *action["count"], action["key"], *odd, *even, *action["flag"]]
        return self.look(echo), self.count, False, self.count == 5, {}


class Odd(gymnasium.Env):
    """Spaces that are refused."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, which):
        some = self.observation_space
        match which:
            case "text":
                self.observation_space = spaces.Dict({"mission": spaces.Text(10), "some": some})
            case "free":
                self.action_space = spaces.Dict({"arm": spaces.Box(-np.inf, 1, (2,), np.float32)})
            case "flag":
                self.observation_space = spaces.Dict({"reward": some})
            case "taken":
                self.observation_space = spaces.Dict({"action": spaces.Dict({"last": some})})
            case "twice":
                self.observation_space = spaces.Dict({"a": spaces.Dict({"b": some}), "a/b": some})
            case "nothing":
                self.observation_space = spaces.Box(-1, 1, (0,), np.float32)
            case "sequence":
                self.action_space = spaces.Sequence(some)


class Meeting(gymnasium.Env):
    """Its step ends when the other one's has begun."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        (self.folder / str(os.getpid())).touch()
        while len(list(self.folder.iterdir())) < 2:
            time.sleep(0.001)
        return np.ones(1, np.float32), 1.0, False, False, {}


class Held(gymnasium.Env):
    """Counts its steps, ten an episode. The first to act in a folder takes its third step only when there is a file `go` in it."""

    observation_space = spaces.Box(-1, 100, (1,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, folder):
        self.folder, self.held = pathlib.Path(folder), None

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        if self.held is None:
            try:
                (self.folder / "held").touch(exist_ok=False)
                self.held = True
            except FileExistsError:
                self.held = False
        self.count += 1
        while self.held and self.count == 3 and not (self.folder / "go").exists():
            time.sleep(0.001)
        return np.array([self.count], np.float32), 1.0, self.count == 10, False, {}


for env in (Faulty, Mixed, Odd, Meeting, Held):
    gymnasium.register(f"{env.__name__}-v0", entry_point=env)
