"""One environment, hosted for an actor."""
import importlib
import json
import math
import mmap
import os
import struct
import traceback

from lucid_env import channel as messages


def main(setup):
    """The life of the process. What it is told: `task`, `kwargs`, `suite`, `seed`, `memory` (a file descriptor), `parent`."""
    messages.follow(setup["parent"])
    channel = messages.Channel()
    try:
        host = Host(channel, setup)
    except ModuleNotFoundError as error:
        # What a suite needs is known; what an environment of Gymnasium lacks may be a part of its own.
        missing = error.name in ("gymnasium", "numpy") or setup["suite"]
        kind = messages.MISSING if missing else messages.RAISED
        channel.end(kind, error.name if kind == messages.MISSING else traceback.format_exc())
    except BaseException as error:
        refused = type(error).__name__ == "Refused"
        channel.end(messages.REFUSED if refused else messages.RAISED, str(error) if refused else traceback.format_exc())
    try:
        host.serve()
    except BaseException:
        channel.end(messages.RAISED, traceback.format_exc())


class Host:
    def __init__(self, channel, setup):
        import gymnasium
        from lucid_env import spaces

        self.channel, self.fault = channel, spaces.Fault
        self.env, self.renders = make(gymnasium, setup["task"], setup["kwargs"], setup["suite"])
        self.observations = spaces.Observations(self.env.observation_space)
        self.actions = spaces.Actions(self.env.action_space)
        self.env.observation_space.seed(setup["seed"])
        self.env.action_space.seed(setup["seed"])
        self.seed, self.memory, self.started = setup["seed"], setup["memory"], False
        sides = {"observations": self.observations, "actions": self.actions}
        hello = {name: [entry.describe() for entry in side.entries] for name, side in sides.items()}
        channel.send(messages.HELLO, json.dumps(hello | {"renders": self.renders}).encode())

    def serve(self):
        answers = {
            messages.STEP: self.step,
            messages.RESET: self.reset,
            messages.RENDER: self.render,
            messages.MAP: self.map,
            messages.CLOSE: self.close,
        }
        receive = self.channel.receive
        while True:
            kind, body = receive()
            answers[kind](body)

    def map(self, _):
        """The memory now has its size. The mapping stays when the descriptor is closed."""
        from lucid_env import spaces

        memory = mmap.mmap(self.memory, os.fstat(self.memory).st_size)
        os.close(self.memory)
        views = spaces.place(self.observations.entries + self.actions.entries, memory)
        count = len(self.observations.entries)
        self.observations.views, self.actions.views = views[:count], views[count:]

    def reset(self, _):
        seed = {} if self.started else {"seed": self.seed}
        self.started = True
        result = self.env.reset(**seed)
        if not isinstance(result, tuple) or len(result) != 2:
            raise self.fault("reset() must return an observation and a dict; is this an environment of the old gym?")
        self.observations.write(result[0])
        self.answer(0.0, False, False)

    def step(self, _):
        result = self.env.step(self.actions.read())
        if not isinstance(result, tuple) or len(result) != 5:
            raise self.fault(
                "step() must return observation, reward, terminated, truncated and a dict; is this an environment of the old gym?"
            )
        observation, reward, terminated, truncated, _ = result
        self.observations.write(observation)
        reward = float(reward)
        if not math.isfinite(reward) or abs(reward) > 3e38:
            raise self.fault(f"the reward is {reward}, which is not a finite float32 number")
        self.answer(reward, bool(terminated), bool(truncated))

    def answer(self, reward, terminated, truncated):
        self.channel.send(messages.OBSERVATION, struct.pack("<f??", reward, terminated, truncated))

    def render(self, _):
        try:
            if not self.started:
                self.env.reset()  # The first reset that counts is seeded.
            picture = self.picture() if self.renders else None
        except Exception:
            traceback.print_exc()
            picture = None
        if picture is None:
            self.channel.send(messages.NO_PICTURE)
        else:
            self.channel.send(messages.PICTURE, struct.pack("<II", *picture.shape[:2]) + picture.tobytes())

    def picture(self):
        import numpy

        picture = numpy.asarray(self.env.render())
        if picture.dtype != numpy.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise self.fault(f"render() returned {picture.dtype} {picture.shape}, not uint8 (height, width, 3)")
        return picture

    def close(self, _):
        self.env.close()
        os._exit(0)


def make(gymnasium, task, kwargs, suite):
    """The environment of a task, and whether it can be drawn."""
    if suite:
        from lucid_env import suites

        env = suites.make(suite, task, kwargs)
        return env, env.render_mode == "rgb_array"
    module, colon, name = task.rpartition(":")
    if colon:
        importlib.import_module(module)
    if "render_mode" not in kwargs and "rgb_array" in modes(gymnasium, name):
        kwargs = {**kwargs, "render_mode": "rgb_array"}
    env = gymnasium.make(name, disable_env_checker=True, **kwargs)
    return env, env.render_mode == "rgb_array"


def modes(gymnasium, name):
    """The ways in which environments of this name can be drawn."""
    creator = gymnasium.spec(name).entry_point
    if isinstance(creator, str):
        creator = gymnasium.envs.registration.load_env_creator(creator)
    return getattr(creator, "metadata", {}).get("render_modes", ())
