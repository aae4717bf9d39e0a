"""Whether the official code loads what `lucid export --to official` wrote, and trains on from it.

    python tests/official/check.py CHECKOUT tests/official EXPORTED

CHECKOUT and the Python are those of tests/parity/README.md. If the run that was exported stands where the checkpoint in
tests/official does, the training step must be the one that is stored there.
"""

import pathlib
import sys

import write
import numpy as np
import safetensors.numpy

if __name__ == '__main__':
  noise = write.generate.Noise(31)
  write.generate.patch(noise)
  folder = pathlib.Path(sys.argv[3])
  official = write.Official(folder)
  before = official.params()
  official.checkpoint.load()
  loaded = official.params()
  moved = sum(not np.array_equal(before[key], loaded[key]) for key in loaded)
  print(f'loaded {len(loaded)} arrays, {moved} of them new; step {int(official.step)}, update {int(official.agent.n_updates)}')
  metrics = official.train(official.batch(4))
  print('next step: loss', metrics['opt/loss'], 'update', metrics['opt/updates'])
  stored = safetensors.numpy.load_file(write.generate.OUT / 'next.safetensors')
  own = write.Official(write.generate.OUT / 'ckpt')
  own.checkpoint.load()
  if all(np.array_equal(own.params()[key], loaded[key]) for key in loaded):
    after = official.params()
    different = [key for key in after if not np.array_equal(np.ravel(after[key]), np.ravel(stored[f'after/{key}']))]
    print('the same as tests/official/ckpt; after the next step', len(different), 'arrays differ from the stored ones')
  else:
    print('not the state of tests/official/ckpt')
