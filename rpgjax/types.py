"""Names for what the whole library passes around."""

from typing import Annotated, Any

import jax
from tyro.constructors import PrimitiveConstructorSpec

Array = jax.Array
Key = jax.Array  # a typed key: jax.random.key(seed)
Params = Any  # a pytree of arrays
Metrics = dict[str, jax.Array]  # scalars by name, "train/..." or "eval/..."

_FLOAT_FLAG = PrimitiveConstructorSpec(
    nargs=1,
    metavar="FLOAT",
    instance_from_str=lambda strings: float(strings[0]),
    is_instance=lambda value: isinstance(value, (int, float)),
    str_from_instance=lambda value: [str(value)],
)
# A setting that may be a traced array, so that a sweep can `vmap` over it; a float on the command line.
Traced = Annotated[float | jax.Array, _FLOAT_FLAG]


def known_to_be(value: float | Array, constant: float) -> bool:
    """Whether a setting is `constant` when the program is built; one that is traced never is."""
    return isinstance(value, float) and value == constant
