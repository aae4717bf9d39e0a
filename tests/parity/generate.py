"""Reference values of the official DreamerV3 for sets of options.

    python generate.py CHECKOUT OUT [NAME…]

CHECKOUT is a checkout of github.com/danijar/dreamerv3 at e3f0224, run by a Python that has its requirements
(jax 0.4.33 on CPU, ninjax, elements, optax, chex, einops, granular, portal, numpy<2) and safetensors.
Every draw is replaced by an array of its own shape that is stored with the set.
"""

import json
import pathlib
import sys
import types

import numpy as np

CHECKOUT, OUT = map(pathlib.Path, sys.argv[1:3])
sys.path.insert(0, str(CHECKOUT))

import elements
import jax
import jax.numpy as jnp
import ninjax as nj
import safetensors.numpy
from ruamel.yaml import YAML
import embodied.jax
import embodied.jax.nets as nets
import embodied.jax.outs as outs
import embodied.jax.utils as utils
from dreamerv3 import agent as agentlib

f32 = np.float32
jax.config.update('jax_platforms', 'cpu')

B, T = 2, 6


class Noise:
  """One array per kind and shape, made when it is first asked for."""

  def __init__(self, seed):
    self.seed, self.arrays = seed, {}

  def __call__(self, kind, shape):
    name = f'noise/{kind}/' + 'x'.join(map(str, shape))
    if name not in self.arrays:
      words = [ord(c) for c in name]
      rng = np.random.default_rng([self.seed, *words])
      draw = {'gumbel': rng.gumbel, 'normal': rng.normal}[kind]
      self.arrays[name] = draw(size=shape).astype(f32)
    return jnp.asarray(self.arrays[name])


def patch(noise):
  def categorical(self, seed, shape=()):
    return jnp.argmax(self.logits + noise('gumbel', self.logits.shape), -1)

  def normal(self, seed, shape=()):
    return self.mean + self.stddev * noise('normal', self.mean.shape)

  outs.Categorical.sample = categorical
  outs.Normal.sample = normal


def deep(base, change):
  base = dict(base)
  for key, value in change.items():
    base[key] = deep(base[key], value) if isinstance(value, dict) and key in base else value
  return base


def base_config():
  text = (CHECKOUT / 'dreamerv3' / 'configs.yaml').read_text()
  agent = YAML(typ='safe').load(text)['defaults']['agent']
  small = dict(units=16, layers=2)
  agent = deep(agent, dict(
      opt=dict(lr=1e-3, eps=1e-8, warmup=2),
      dyn=dict(rssm=dict(deter=32, hidden=16, stoch=4, classes=4, blocks=4)),
      enc=dict(simple=dict(depth=4, **small)), dec=dict(simple=dict(depth=4, **small)),
      rewhead=dict(outscale=0.3, **small), conhead=small, policy=dict(outscale=1.0, **small),
      value=dict(outscale=0.3, **small), imag_length=5))
  return {**agent, 'compute_dtype': 'float32', 'batch_size': B, 'batch_length': T, 'replay_context': 1, 'report_length': 4}


def spaces(table):
  flags = dict(is_first=['bool', []], is_last=['bool', []], is_terminal=['bool', []], reward=['float32', []])
  made = {}
  for key, (dtype, shape, *classes) in {**table, **flags}.items():
    if classes:
      made[key] = elements.Space(np.dtype(dtype), tuple(shape), 0, classes[0])
    else:
      made[key] = elements.Space(np.dtype(dtype), tuple(shape))
  return made


def actions(table):
  made = {}
  for key, (dtype, shape, *classes) in table.items():
    made[key] = elements.Space(np.int32, tuple(shape), 0, classes[0]) if classes else (
        elements.Space(np.float32, tuple(shape), -1, 1))
  return made


def batch(rng, obs, act, model, length, consec):
  data = {}
  for key, space in obs.items():
    shape = (B, length, *space.shape)
    if key in ('is_first', 'is_last', 'is_terminal'):
      data[key] = np.zeros(shape, bool)
    elif space.dtype == np.uint8 and len(space.shape) == 3:
      data[key] = rng.integers(0, 256, shape).astype(np.uint8)
      data[key][:, :, : space.shape[0] // 3] = 40  # Constant areas: pooling must share the gradient.
    elif space.discrete:
      data[key] = rng.integers(0, int(np.asarray(space.classes).max()), shape).astype(space.dtype)
    else:
      data[key] = (3 * rng.normal(size=shape)).astype(f32)
  data['is_first'][0, 0] = True
  data['is_first'][1, 3] = True
  data['is_last'][1, 2] = True
  data['is_terminal'][1, 2] = consec != 1
  for key, space in act.items():
    shape = (B, length, *space.shape)
    data[key] = (rng.integers(0, int(np.asarray(space.classes).max()), shape).astype(np.int32) if space.discrete
                 else rng.uniform(-1.5, 1.5, shape).astype(f32))
  data['consec'] = np.full((B, length), consec, np.int32)
  data['stepid'] = rng.integers(0, 256, (B, length, 20)).astype(np.uint8)
  rssm = model.dyn
  if model.config.replay_context:
    data['dyn/deter'] = rng.uniform(-1, 1, (B, length, rssm.deter)).astype(f32)
    picks = rng.integers(0, rssm.classes, (B, length, rssm.stoch))
    data['dyn/stoch'] = np.eye(rssm.classes, dtype=f32)[picks]
  return data


def make(name, seed, obs_table, act_table, change):
  noise = Noise(seed)
  patch(noise)
  config = deep(base_config(), change)
  nets.COMPUTE_DTYPE = utils.COMPUTE_DTYPE = getattr(jnp, config['compute_dtype'])
  if not config['repval_loss']:
    del config['loss_scales']['repval']
  obs, act = spaces(obs_table), actions(act_table)
  model = object.__new__(agentlib.Agent)
  agentlib.Agent.__init__(model, obs, act, elements.Config({k: v for k, v in config.items() if k != 'compute_dtype'}))
  rng = np.random.default_rng(seed)
  length = T + config['replay_context']
  datas = [batch(rng, obs, act, model, length, c) for c in (0, 1 if config['replay_context'] else 0, 0)]
  as_jax = lambda xs: jax.tree.map(jnp.asarray, xs)

  carry0 = nj.pure(lambda: model.init_train(B))({}, seed=0)[1]
  state = nj.init(model.train)({}, carry0, as_jax(datas[0]), seed=seed)
  state = dict(state)
  for key, value in state.items():  # Scales and biases away from their initial values; a slow value that differs.
    if key.startswith(('opt/', 'slowval_count')):
      continue
    if key.split('/')[-1] in ('bias', 'shift'):
      state[key] = jnp.asarray(0.1 * rng.normal(size=value.shape), jnp.float32)
      if key in ('rew/head/logits/bias', 'val/head/logits/bias'):
        # As after training: peaked near 0. Bins reach 5e8, so a flat head would drown returns in rounding.
        spread = np.linspace(-20, 20, value.shape[0]) - (0.9 if key[0] == 'v' else 0.1)
        state[key] = jnp.asarray(-spread ** 2 / 2, jnp.float32)
    elif key.split('/')[-1] == 'scale':
      state[key] = jnp.asarray(1 + 0.2 * rng.normal(size=value.shape), jnp.float32)
  for key in list(state):
    if key.startswith('slowval/'):
      state[key] = state['val/' + key[8:]] * jnp.asarray(1 + 0.05 * rng.normal(size=state[key].shape), jnp.float32)
  starts = {'lo': -0.4, 'hi': 1.7, 'mean': 0.3, 'sqrs': 1.1, 'corr': 0.2}
  for key in list(state):
    if key.startswith(('retnorm/', 'valnorm/', 'advnorm/')):
      state[key] = jnp.asarray(starts[key.split('/')[1]], jnp.float32)
    if key.startswith('opt/state') or key == 'opt/step':
      state[key] = jnp.zeros_like(state[key])

  tensors = {}
  def put(key, value):
    value = np.asarray(value.astype(f32) if value.dtype == jnp.bfloat16 else value)
    value = value.astype(np.uint8) if value.dtype == bool else value
    value = value.astype(f32) if value.dtype == np.float64 else value
    value = value.astype(np.int32) if value.dtype == np.int64 else value
    tensors[key] = np.ascontiguousarray(value.reshape((1,)) if value.shape == () else value)
  public = lambda s: {k: v for k, v in s.items() if not k.startswith('opt/')}
  norm = lambda k: k + '/value' if k.startswith(('retnorm/', 'valnorm/', 'advnorm/')) or k == 'slowval_count' else k
  plain = lambda k: k if not k.endswith('/value/value') else k[:-6]
  dump = lambda group, s: [put(f'{group}/{plain(norm(k))}', v) for k, v in public(s).items()]

  dump('params', state)
  for i, data in enumerate(datas, 1):
    for key, value in data.items():
      put(f'data_{i}/{key}', value)

  def first_step(carry, data):
    carry, o, prevact, _ = model._apply_replay_context(carry, data)
    lossfn = lambda *a: model.loss(*a, training=True)
    loss, params, grads, aux = nj.grad(lossfn, model.modules, has_aux=True)(carry, o, prevact)
    _, entries, outputs, metrics = aux
    reset = o['is_first']
    _, _, recons = model.dec({}, outputs['repfeat'], reset, training=True)
    recons = {k: raw(v) for k, v in recons.items()}
    return o, prevact, loss, grads, entries, outputs, metrics, recons
  def raw(out):
    out = getattr(out, 'output', out)
    return out.mean if hasattr(out, 'mean') else out.logits
  _, (o, prevact, loss, grads, entries, outputs, metrics, recons) = jax.jit(nj.pure(first_step))(
      state, carry0, as_jax(datas[0]), seed=0)
  for k, v in o.items():
    put(f'trained_obs/{k}', v)
  for k, v in prevact.items():
    put(f'trained_prevact/{k}', v)
  put('out/tokens', outputs['tokens'])
  for k, v in outputs['repfeat'].items():
    put(f'out/repfeat/{k}', v)
  for k, v in entries[1].items():
    put(f'out/entries/dyn/{k}', v)
  for k, v in recons.items():
    put(f'out/recon/{k}', v)
  put('out/loss', loss)
  for k, v in outputs['losses'].items():
    put(f'loss/{k}', v)
  for k, v in metrics.items():
    put(f'metric/{k}', v)
  for k, v in grads.items():
    put(f'grad/{k}', v)

  train = jax.jit(nj.pure(model.train))
  now, carry = state, carry0
  for i, data in enumerate(datas, 1):
    now, (carry, result, mets) = train(now, carry, as_jax(data), seed=i)
    for k in ('loss', 'grad_norm', 'grad_rms', 'update_rms', 'param_rms'):
      put(f'train/{i}/{k}', mets[f'opt/{k}'])
    for k, v in result.get('replay', {}).items():
      if k != 'stepid':
        put(f'train/{i}/replay/{k}', v)
    if i in (1, 3):
      dump(f'params_after_{i}', now)

  policy = jax.jit(nj.pure(model.policy))
  pcarry = nj.pure(lambda: model.init_policy(B))({}, seed=0)[1]
  for i in (1, 2):
    row = {k: jnp.asarray(datas[0][k][:, i - 1]) for k in obs}
    if i == 1:
      row['is_first'] = jnp.ones_like(row['is_first'])
    _, (pcarry, acts, result) = policy(state, pcarry, row, seed=i)
    for k, v in acts.items():
      put(f'policy/{i}/action/{k}', v)
    put(f'policy/{i}/deter', pcarry[1]['deter'])
    put(f'policy/{i}/stoch', pcarry[1]['stoch'])
  for k, v in noise.arrays.items():
    put(k, v)

  noted = set(tensors)
  report(model, state, as_jax(datas[0]), put)
  for k, v in noise.arrays.items():
    put(k, v)
  if config['compute_dtype'] == 'float32':
    (OUT / 'report').mkdir(exist_ok=True)
    safetensors.numpy.save_file({k: v for k, v in tensors.items() if k not in noted}, OUT / 'report' / f'{name}.safetensors')
  tensors = {k: v for k, v in tensors.items() if k in noted}

  if config['compute_dtype'] != 'float32':  # One step: rounding makes later ones drift apart.
    tensors = {k: v for k, v in tensors.items() if not k.startswith(('params_after', 'train/', 'data_2', 'data_3'))}

  describe = lambda s: [str(np.dtype(s.dtype)), list(s.shape)] + (
      [True, int(np.asarray(s.classes).max())] if s.dtype == np.int32 else [])
  table = {k: describe(s) for k, s in obs.items()}
  acts = {k: [str(np.dtype(s.dtype)), list(s.shape), bool(s.discrete), int(np.asarray(s.classes).max()) if s.discrete else 0] for k, s in act.items()}
  (OUT / name).parent.mkdir(parents=True, exist_ok=True)
  (OUT / f'{name}.json').write_text(json.dumps(dict(
      config=config, obs_space=table, act_space=acts, batch=dict(B=B, T=T, replay_context=config['replay_context'])), indent=1))
  safetensors.numpy.save_file(tensors, OUT / f'{name}.safetensors')
  print(name, len(tensors), 'tensors', 'loss', float(loss))


def report(model, state, data, put):
  """Losses, gradient norms and open-loop grids of a report on `data`; grids of small images only, of which files stay small."""
  carry = nj.pure(lambda: model.init_report(B))({}, seed=0)[1]
  model.config = model.config.update(report=True, report_gradnorms=True)
  _, (_, result) = jax.jit(nj.pure(model.report))(state, carry, data, seed=0)
  for k, v in result.items():
    if v.size < 110_000:
      put(f'report/{k}', v)
  def losses(carry, data):
    carry, obs, prevact, _ = model._apply_replay_context(carry, data)
    return model.loss(carry, obs, prevact, training=False)[1][3]
  _, metrics = jax.jit(nj.pure(losses))(state, carry, data, seed=0)
  for k, v in metrics.items():
    if k.startswith('loss/'):
      put(f'report/{k}', v)


SETS = {
    # Many things at once: other activations, normalisers, several layers, an absolute posterior, several actions.
    'options_vector': (
        11, dict(velocity=['float32', [3]], position=['float32', [2, 2]], mode=['int32', [], 5], cells=['int32', [3], 4]),
        dict(torque=['float32', [2]], button=['int32', [], 3], keys=['int32', [2], 4]),
        dict(
            opt=dict(wd=0.05, nesterov=True, schedule='linear', warmup=1, anneal=6),
            dyn=dict(rssm=dict(absolute=True, obslayers=2, imglayers=1, dynlayers=2, unimix=0.05, free_nats=0.3, act='gelu', norm='layer')),
            enc=dict(simple=dict(symlog=False, act='relu', layers=3)), dec=dict(simple=dict(symlog=False, act='mish', norm='rms1em6')),
            ac_grads=True, reward_grad=False, contdisc=False, imag_last=3, horizon=50,
            imag_loss=dict(slowtar=True, lam=0.9, actent=0.01, slowreg=0.5),
            repl_loss=dict(slowtar=True, lam=0.8, slowreg=0.25), slowvalue=dict(rate=0.1, every=2),
            retnorm=dict(impl='meanstd', rate=0.1, limit=0.5, debias=True), valnorm=dict(impl='perc', rate=0.05, limit=0.2, debias=False),
            advnorm=dict(impl='meanstd', rate=0.2, limit=0.1, debias=True),
            value=dict(act='elu', layers=1, bins=254), rewhead=dict(norm='none', bins=41), policy=dict(minstd=0.3, maxstd=0.8, act='tanh'))),
    # Strided convolutions, several images in no alphabetical order, sides that differ.
    'options_strided': (
        12, dict(wrist=['uint8', [48, 64, 3]], camera=['uint8', [48, 64, 1]], speed=['float32', []]),
        dict(action=['float32', [2]]),
        dict(
            opt=dict(agc=0.0, schedule='cosine', warmup=0, anneal=5, lr=3e-4), enc=dict(simple=dict(strided=True, kernel=3, act='gelu')),
            dec=dict(simple=dict(strided=True, kernel=5, bspace=4)), dyn=dict(rssm=dict(unimix=0.0, free_nats=0.0)),
            repval_grad=False, slowvalue=dict(rate=1.0, every=1), replay_context=0)),
    # An outer convolution at full resolution, three stages, no value loss on replay, two context steps.
    'options_outer': (
        23, dict(image=['uint8', [16, 24, 3]], goal=['float32', [4]]), dict(action=['int32', [], 6]),
        dict(
            enc=dict(simple=dict(outer=True, mults=[2, 3, 4])), dec=dict(simple=dict(outer=True, mults=[2, 3, 4], bspace=2, outscale=0.5)),
            repval_loss=False, loss_scales=dict(rec=0.7, rew=1.3, con=0.9, dyn=0.8, rep=0.2, policy=1.1, value=0.6),
            retnorm=dict(impl='none'), dyn=dict(rssm=dict(blocks=1, outscale=0.3)), replay_context=2)),
    # Outer and strided together.
    'options_outer_strided': (
        14, dict(image=['uint8', [32, 32, 3]]), dict(a=['int32', [], 3], b=['float32', [1]]),
        dict(
            enc=dict(simple=dict(outer=True, strided=True)), dec=dict(simple=dict(outer=True, strided=True)),
            retnorm=dict(debias=True), advnorm=dict(impl='perc', debias=True, limit=0.01))),
    # Activations in bfloat16, which agree to that precision only.
    'bfloat16/all': (
        31, dict(velocity=['float32', [5]], image=['uint8', [64, 64, 3]]), dict(action=['float32', [2]]),
        dict(compute_dtype='bfloat16')),
}

if __name__ == '__main__':
  for name in sys.argv[3:] or SETS:
    make(name, *SETS[name])
