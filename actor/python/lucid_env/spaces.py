"""Gymnasium's spaces as named arrays of three types: bytes (images), float32, and int32 (classes)."""
import math

import numpy as np
from gymnasium import spaces as gym

FLAGS = ("is_first", "is_last", "is_terminal", "reward")
OTHERS = ("action", "dyn", "lucid", "vit")
TYPES = {"u8": np.uint8, "f32": np.float32, "i32": np.int32}
ALIGN = 64


class Refused(Exception):
    """A space that cannot be used; the message says which, and what to do."""


class Fault(Exception):
    """What an environment returned is not what its spaces promise."""


class Entry:
    """One named array: its type (`u8`, `f32` or `i32`), its shape, the number of classes if it counts some."""

    def __init__(self, key, dtype, shape, classes=None):
        self.key, self.dtype, self.shape, self.classes = key, dtype, tuple(int(n) for n in shape), classes
        if 0 in self.shape:
            raise Refused(f"`{key}` has the shape {self.shape}, which holds nothing: leave it out")

    def describe(self):
        return {"key": self.key, "dtype": self.dtype, "shape": self.shape, "classes": self.classes}

    def bytes(self):
        return math.prod(self.shape) * np.dtype(TYPES[self.dtype]).itemsize


def place(entries, memory):
    """Arrays over the memory, one for each entry, in order, each from a multiple of 64 bytes on."""
    views, at = [], 0
    for entry in entries:
        count = math.prod(entry.shape)
        views.append(np.frombuffer(memory, TYPES[entry.dtype], count, at).reshape(entry.shape))
        at += -(-entry.bytes() // ALIGN) * ALIGN
    return views


def join(key, part):
    return f"{key}/{part}" if key else str(part)


def leaves(space, key=""):
    """The spaces inside Dict and Tuple with their names, the outer ones' before them: `camera/left`, `1/angle`."""
    if isinstance(space, gym.Dict):
        for name, inner in space.spaces.items():
            yield from leaves(inner, join(key, name))
    elif isinstance(space, gym.Tuple):
        for index, inner in enumerate(space.spaces):
            yield from leaves(inner, join(key, index))
    else:
        yield key, space


def unknown(what, key, space):
    return Refused(
        f"{what} `{key}` is a {type(space).__name__} space, which is none of Box, Discrete, MultiDiscrete, MultiBinary, "
        "Dict and Tuple: leave it out or encode it as one of these in a wrapper of yours "
        "(gymnasium.ObservationWrapper or ActionWrapper), or keep others only (gymnasium.wrappers.FilterObservation)"
    )


class Observations:
    """Writes observations of a space into memory."""

    def __init__(self, space):
        self.space, self.nested = space, nested(space)
        self.entries, self.writers = [], []
        for key, leaf in leaves(space):
            entry, writer = observed(key or default_key(leaf), leaf)
            self.entries.append(entry)
            self.writers.append(writer)
        keys = [entry.key for entry in self.entries]
        if not keys:
            raise Refused("the observation space is empty: there is nothing to see")
        for key in keys:
            if key in FLAGS or key.split("/")[0] in OTHERS or keys.count(key) > 1:
                raise Refused(
                    f"observation `{key}` has a name that is taken: rename it in a wrapper "
                    f"(gymnasium.ObservationWrapper); taken are {', '.join(FLAGS + OTHERS)}"
                )
        self.views = []

    def write(self, observation):
        values = list(self.values(self.space, observation, "")) if self.nested else [observation]
        for writer, value, view in zip(self.writers, values, self.views):
            writer(value, view)

    def values(self, space, value, key):
        if isinstance(space, gym.Dict):
            for name, inner in space.spaces.items():
                try:
                    part = value[name]
                except (KeyError, IndexError, TypeError) as error:
                    raise Fault(f"the observation lacks `{join(key, name)}`") from error
                yield from self.values(inner, part, join(key, name))
        elif isinstance(space, gym.Tuple):
            if not isinstance(value, (tuple, list)) or len(value) != len(space.spaces):
                raise Fault(f"observation `{key}` is {type(value).__name__}, must be a tuple of {len(space.spaces)}")
            for index, inner in enumerate(space.spaces):
                yield from self.values(inner, value[index], join(key, index))
        else:
            yield value


def default_key(space):
    return "image" if is_image(space) else "vector"


def is_image(space):
    return isinstance(space, gym.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def observed(key, space):
    """The entry of one observation space, and what writes a value into its memory."""
    if is_image(space):
        entry = Entry(key, "u8", (*space.shape, 1)[:3])
        return entry, lambda value, view: copy(checked(key, space, value), view)
    if isinstance(space, gym.Box):
        # The encoder takes numbers, vectors and lists of vectors.
        shape = space.shape if len(space.shape) <= 2 else (math.prod(space.shape),)
        return Entry(key, "f32", shape), lambda value, view: numbers(key, checked(key, space, value), view)
    if isinstance(space, gym.Discrete):
        low, count = int(space.start), int(space.n)
        return Entry(key, "i32", (), count), lambda value, view: one_class(key, value, low, count, view)
    if isinstance(space, gym.MultiDiscrete):
        low, count = start(space), np.asarray(space.nvec)
        entry = Entry(key, "i32", (count.size,), int(count.max(initial=0)))
        return entry, lambda value, view: classes(key, checked(key, space, value), low, count, view)
    if isinstance(space, gym.MultiBinary):
        entry = Entry(key, "i32", (math.prod(space.shape),), 2)
        return entry, lambda value, view: classes(key, checked(key, space, value), 0, 2, view)
    raise unknown("observation", key, space)


def start(space):
    return np.asarray(getattr(space, "start", np.zeros_like(space.nvec)))


def checked(key, space, value):
    """The value as an array of the space's shape, and of a type that its own holds."""
    array = value if type(value) is np.ndarray else np.asarray(value)
    if array.shape != space.shape:
        raise Fault(f"observation `{key}` has the shape {array.shape}; its space says {space.shape}")
    if array.dtype != space.dtype and not np.can_cast(array.dtype, space.dtype, "same_kind"):
        raise Fault(f"observation `{key}` has the type {array.dtype}; its space says {space.dtype}")
    return array


def copy(array, view):
    view[...] = array.reshape(view.shape)


def numbers(key, array, view):
    with np.errstate(over="ignore"):
        copy(array, view)
    if not np.isfinite(view).all():
        bad = view[~np.isfinite(view)].flat[0]
        raise Fault(f"observation `{key}` holds {bad}, which is not a finite float32 number")


def one_class(key, value, low, count, view):
    number = np.asarray(value)
    if number.shape != () or number.dtype.kind not in "iub":
        raise Fault(f"observation `{key}` is {value!r}; its space says one of the numbers {low} to {low + count - 1}")
    if not low <= int(number) < low + count:
        raise Fault(f"observation `{key}` is {value}; its space says {low} to {low + count - 1}")
    view[...] = int(number) - low


def classes(key, array, low, count, view):
    array = array.astype(np.int64) - low
    if (array < 0).any() or (array >= count).any():
        raise Fault(f"observation `{key}` is {(array + low).tolist()}, which its space does not hold")
    copy(array, view)


class Actions:
    """Reads actions of a space from memory."""

    def __init__(self, space):
        self.space, self.nested, self.entries, self.readers = space, nested(space), [], []
        for key, leaf in leaves(space, "action"):
            entries, reader = acted(key, leaf)
            self.entries.extend(entries)
            self.readers.append((len(entries), reader))
        if not self.entries:
            raise Refused("the action space is empty: there is nothing to do")
        self.views = []

    def read(self):
        at, values = 0, []
        for count, reader in self.readers:
            values.append(reader(self.views[at : at + count]))
            at += count
        return self.build(self.space, iter(values)) if self.nested else values[0]

    def build(self, space, values):
        if isinstance(space, gym.Dict):
            return {name: self.build(inner, values) for name, inner in space.spaces.items()}
        if isinstance(space, gym.Tuple):
            return tuple(self.build(inner, values) for inner in space.spaces)
        return next(values)


def nested(space):
    return isinstance(space, (gym.Dict, gym.Tuple))


def acted(key, space):
    """The entries of one action space, and what reads a value of the space from their memory."""
    if isinstance(space, gym.Box):
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise Refused(
                f"action `{key}` has no bounds (low {space.low.min()}, high {space.high.max()}): give its Box finite ones, "
                "in the environment or in a wrapper (gymnasium.ActionWrapper)"
            )
        bounds = space.low.astype(np.float64), space.high.astype(np.float64)
        return [Entry(key, "f32", space.shape)], lambda views: between(*bounds, space.dtype, views[0])
    if isinstance(space, gym.Discrete):
        low = int(space.start)
        return [Entry(key, "i32", (), int(space.n))], lambda views: np.int64(low + int(views[0]))
    if isinstance(space, gym.MultiDiscrete):
        low, counts = start(space), np.asarray(space.nvec)
        if counts.size and (counts == counts.flat[0]).all():
            entries = [Entry(key, "i32", counts.shape, int(counts.flat[0]))]
            return entries, lambda views: (views[0] + low).astype(space.dtype)
        entries = [Entry(join(key, i), "i32", (), int(n)) for i, n in enumerate(counts.flat)]
        return entries, lambda views: (np.reshape(views, counts.shape) + low).astype(space.dtype)
    if isinstance(space, gym.MultiBinary):
        return [Entry(key, "i32", space.shape, 2)], lambda views: views[0].astype(space.dtype)
    raise unknown("action", key, space)


def between(low, high, dtype, value):
    """From [-1, 1], in which agents act, to the bounds of each element."""
    value = np.clip(low + (value.astype(np.float64) + 1) / 2 * (high - low), low, high)
    return (value if dtype.kind == "f" else np.rint(value)).astype(dtype)
