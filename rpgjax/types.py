"""Names for what the whole library passes around."""

from typing import Any

import jax

Array = jax.Array
Key = jax.Array  # a typed key: jax.random.key(seed)
Params = Any  # a pytree of arrays
Metrics = dict[str, jax.Array]  # scalars by name, "train/..." or "eval/..."
