"""Episodes of a Minari dataset as files for `replay.import`.

    python from_minari.py DATASET FOLDER

DATASET is an id, as in D4RL/pointmaze/umaze-v2, which is downloaded unless it is there. Needs `pip install "minari[all]" pillow`.
"""
import pathlib
import sys

import numpy as np
from gymnasium import spaces


def leaves(space, value, key):
    """Entries by the names that Lucid gives them: parts are joined by a slash."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for name, inner in parts:
            yield from leaves(inner, value[name], f"{key}/{name}" if key else str(name))
    else:
        is_image = isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)
        yield key or ("image" if is_image else "vector"), space, np.asarray(value)


def entry(space, values, scaled):
    """Classes from 0 on; numbers of an action brought to [-1, 1], in which agents act."""
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return values - space.start
    if scaled and isinstance(space, spaces.Box):
        return (2 * (values - space.low) / (space.high - space.low) - 1).astype(np.float32)
    return values


def steps(dataset, episode):
    """An episode of T actions as T + 1 steps: what is seen, the reward that came with it, the action chosen after it."""
    count = len(episode.rewards) + 1
    columns = {}
    for key, space, values in leaves(dataset.observation_space, episode.observations, ""):
        columns[key] = entry(space, values, scaled=False)
    for key, space, values in leaves(dataset.action_space, episode.actions, "action"):
        values = entry(space, values, scaled=True)
        columns[key] = np.concatenate([values, np.zeros_like(values[:1])])
    columns["reward"] = np.concatenate([[0], episode.rewards]).astype(np.float32)
    columns["is_first"] = np.arange(count) == 0
    columns["is_last"] = np.arange(count) == count - 1
    columns["is_terminal"] = np.concatenate([[False], episode.terminations])
    return columns


if __name__ == "__main__":
    import minari

    dataset, folder = minari.load_dataset(sys.argv[1], download=True), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True)
    for episode in dataset.iterate_episodes():
        np.savez_compressed(folder / f"{episode.id:08}.npz", **steps(dataset, episode))
    print(f"{dataset.total_episodes} episodes, {dataset.total_steps} actions: {folder}")
