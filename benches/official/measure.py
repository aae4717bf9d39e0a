"""Training steps and steps of acting of the official DreamerV3 on this machine, on the cases of `lucid bench train|act`.

    python measure.py CHECKOUT [train|act] [--case NAME…] [--batch N] [--steps N] [--threads N]

CHECKOUT is a checkout of github.com/danijar/dreamerv3 at e3f0224, run by a Python that has its requirements (jax 0.4.33 on
CPU, ninjax, elements, optax, chex, einops, granular, portal, ruamel.yaml, numpy<2). One JSON line a case, medians per step:
float32, compiled, random data; training steps with batch 16 x 64.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

begin = time.perf_counter()
parser = argparse.ArgumentParser()
parser.add_argument('checkout', type=pathlib.Path)
parser.add_argument('what', nargs='?', choices=['train', 'act'], default='train')
parser.add_argument('--case', nargs='*', default=['size1m-vector', 'size1m-image', 'size12m-image'])
parser.add_argument('--batch', type=int, default=1, help='environments that act together')
parser.add_argument('--steps', type=int, help='that are measured: 5 of training, 300 of acting')
parser.add_argument('--threads', type=int, default=0, help='cores that this process may use (0: all)')
args = parser.parse_args()
if args.threads:
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])
sys.path.insert(0, str(args.checkout))

import elements
import jax
import jax.numpy as jnp
import ninjax as nj
import numpy as np
from ruamel.yaml import YAML
import embodied.jax
import embodied.jax.nets as nets
import embodied.jax.utils as utils
from dreamerv3 import agent as agentlib

jax.config.update('jax_platforms', 'cpu')
nets.COMPUTE_DTYPE = utils.COMPUTE_DTYPE = jnp.float32
B, T = 16, 64


def spaces(case):
  flags = {k: elements.Space(bool) for k in ('is_first', 'is_last', 'is_terminal')}
  flags['reward'] = elements.Space(np.float32)
  if case.endswith('vector'):
    return {'vector': elements.Space(np.float32, (24,)), **flags}, {'action': elements.Space(np.float32, (6,), -1, 1)}
  return {'image': elements.Space(np.uint8, (64, 64, 3)), **flags}, {'action': elements.Space(np.int32, (), 0, 17)}


def config(case):
  configs = YAML(typ='safe').load((args.checkout / 'dreamerv3' / 'configs.yaml').read_text())
  full = elements.Config(configs['defaults']).update(configs[case.split('-')[0]])
  return elements.Config(
      **full.agent, batch_size=B, batch_length=T, replay_context=1, report_length=32, logdir='', seed=0,
      replica=0, replicas=1)


def noise(spaces, lead, rng):
  data = {}
  for key, space in spaces.items():
    shape = (*lead, *space.shape)
    if space.dtype == bool:
      data[key] = np.zeros(shape, bool)
    elif space.dtype == np.uint8:
      data[key] = rng.integers(0, 256, shape).astype(np.uint8)
    elif space.discrete:
      data[key] = rng.integers(0, int(np.asarray(space.classes).max()), shape).astype(np.int32)
    else:
      data[key] = rng.normal(size=shape).astype(np.float32)
  return data


def batch(obs, act, model, rng):
  data = noise({**obs, **act}, (B, T + 1), rng)
  data['consec'] = np.zeros((B, T + 1), np.int32)
  data['stepid'] = np.zeros((B, T + 1, 20), np.uint8)
  data['dyn/deter'] = np.zeros((B, T + 1, model.dyn.deter), np.float32)
  data['dyn/stoch'] = np.zeros((B, T + 1, model.dyn.stoch, model.dyn.classes), np.float32)
  return jax.tree.map(jnp.asarray, data)


def report(case, step, count, **more):
  """`first_s`: from the start of this script, the imports, cases before and compilation included, to the end of the first step."""
  wall, cpu = [], []
  warm = max(2, count // 10)
  for i in range(count + warm):
    start, spent = time.perf_counter(), time.process_time()
    step(i)
    if i == 0:
      more['first_s'] = round(time.perf_counter() - begin, 3)
    if i >= warm:
      wall.append(time.perf_counter() - start)
      cpu.append(time.process_time() - spent)
  print(json.dumps(dict(
      case=case, **more, wall_s=round(statistics.median(wall), 6), cpu_s=round(statistics.median(cpu), 6),
      threads=len(os.sched_getaffinity(0)))), flush=True)


def measure(case):
  obs, act = spaces(case)
  model = object.__new__(agentlib.Agent)
  agentlib.Agent.__init__(model, obs, act, config(case))
  data = batch(obs, act, model, np.random.default_rng(0))
  carry = nj.pure(lambda: model.init_train(B))({}, seed=0)[1]
  state = nj.init(model.train)({}, carry, data, seed=0)
  if args.what == 'act':
    return act_steps(case, model, state, obs)
  train = jax.jit(nj.pure(model.train), donate_argnums=0)

  def step(seed):
    nonlocal state, carry
    state, (carry, _, metrics) = train(state, carry, data, seed=seed)
    jax.block_until_ready((state, carry, metrics))

  report(case, step, args.steps or 5)


def act_steps(case, model, state, obs):
  seen = jax.tree.map(jnp.asarray, noise(obs, (args.batch,), np.random.default_rng(0)))
  carry = nj.pure(lambda: model.init_policy(args.batch))({}, seed=0)[1]
  pure = nj.pure(model.policy)
  # What it does not change is an input that does not come out, and no constant that could be worked with ahead of time.
  policy = jax.jit(lambda state, carry, seen, seed: pure(state, carry, seen, seed=seed)[1])

  def step(seed):
    nonlocal carry
    carry, actions, out = policy(state, carry, seen, seed)
    jax.block_until_ready((carry, actions, out))

  report(case, step, args.steps or 300, batch=args.batch)


for case in args.case:
  measure(case)
