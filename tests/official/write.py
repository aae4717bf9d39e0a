"""A tiny checkpoint written by the official DreamerV3, and what its next training step gives.

    python tests/official/write.py CHECKOUT tests/official

CHECKOUT and the Python are those of tests/parity/README.md. Every draw is replaced by a stored array, as there.
"""

import pathlib
import shutil
import sys
import tempfile
import tomllib

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / 'parity'))

import generate  # Puts CHECKOUT in the path.
import elements
import embodied
import jax
import numpy as np
import safetensors.numpy
from dreamerv3 import agent as agentlib
from ruamel.yaml import YAML

OBS = dict(position=['float32', [3]], velocity=['float32', [2]])
ACT = dict(action=['float32', [1]])
STEPS = 1234


def config(logdir):
  text = (generate.CHECKOUT / 'dreamerv3' / 'configs.yaml').read_text()
  agent = YAML(typ='safe').load(text)['defaults']['agent']
  agent = generate.deep(agent, tomllib.loads((HERE / 'run.toml').read_text())['agent'])
  return elements.Config(
      **agent, logdir=str(logdir), seed=0, replay_context=1,
      jax=dict(platform='cpu', compute_dtype='float32', transfer_guard=False, profiler=False, precompile=False))


class Official:
  """Everything that the official training loop puts into a checkpoint."""

  def __init__(self, folder):
    scratch = pathlib.Path(tempfile.mkdtemp())
    self.obs, self.act = generate.spaces(OBS), generate.actions(ACT)
    self.agent = agentlib.Agent(self.obs, self.act, config(scratch))
    self.step = elements.Counter()
    self.checkpoint = elements.Checkpoint(elements.Path(str(folder)))
    self.checkpoint.step = self.step
    self.checkpoint.agent = self.agent
    self.checkpoint.replay = embodied.replay.Replay(length=7, capacity=100, directory=elements.Path(str(scratch)))

  def batch(self, seed):
    model = self.agent.model
    return generate.batch(np.random.default_rng(seed), self.obs, self.act, model, model.config.batch_length + 1, 0)

  def train(self, data):
    """One step from a fresh carry; returns its metrics."""
    agent = self.agent
    data = embodied.jax.internal.device_put(data, agent.train_sharded)
    seed = agent._seeds(int(agent.n_batches), agent.train_mirrored)
    agent.n_batches.increment()
    agent.train(agent.init_train(generate.B), {**data, 'seed': seed})
    return agent._take_outs(agent.pending_mets)

  def params(self):
    return self.agent.save()['params']


def main(noise):
  official = Official(generate.OUT / 'ckpt')
  params = official.agent.params
  for key, peak in (('rew/head/logits/bias', 0.1), ('val/head/logits/bias', 0.9)):
    # As after training: peaked near 0, because bins reach 5e8, so that a flat head drowns returns in rounding.
    spread = np.linspace(-20, 20, params[key].shape[0]) - peak
    params[key] = jax.device_put(-(spread ** 2 / 2).astype(np.float32), params[key].sharding)
  for seed in (1, 2, 3):
    official.train(official.batch(seed))
  official.step.increment(STEPS)
  shutil.rmtree(generate.OUT / 'ckpt', ignore_errors=True)
  official.checkpoint.save()

  resumed = Official(generate.OUT / 'ckpt')
  resumed.checkpoint.load()
  data = resumed.batch(4)
  tensors = {f'data/{k}': v for k, v in data.items()}
  metrics = resumed.train(data)
  tensors.update({f'metric/{k}': v for k, v in metrics.items() if k.startswith(('loss/', 'opt/'))})
  tensors.update({f'after/{k}': v for k, v in resumed.params().items()})
  tensors.update(noise.arrays)
  safetensors.numpy.save_file({k: plain(v) for k, v in tensors.items()}, generate.OUT / 'next.safetensors')


def plain(value):
  value = np.asarray(value)
  return np.ascontiguousarray(value.astype(np.uint8) if value.dtype == bool else value)


if __name__ == '__main__':
  noise = generate.Noise(31)
  generate.patch(noise)
  main(noise)
