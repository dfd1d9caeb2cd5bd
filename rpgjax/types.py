"""Names for what the whole library passes around, and what settings' fields may be."""

import dataclasses
import math
import typing
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
from tyro.constructors import PrimitiveConstructorSpec

Array = jax.Array
Key = jax.Array  # a typed key: jax.random.key(seed)
Params = Any  # a pytree of arrays
Metrics = dict[str, jax.Array]  # scalars by name, "train/..." or "eval/..."


class Limits(NamedTuple):
    """What a number may be, both ends included."""

    least: float
    most: float = math.inf


_FLOAT_FLAG = PrimitiveConstructorSpec(
    nargs=1,
    metavar="FLOAT",
    instance_from_str=lambda strings: float(strings[0]),
    is_instance=lambda value: isinstance(value, (int, float)),
    str_from_instance=lambda value: [str(value)],
)
# A setting that may be a traced array, so that a sweep can `vmap` over it; a float on the command line.
Traced = Annotated[float | jax.Array, _FLOAT_FLAG]
Share = Annotated[Traced, Limits(0.0, 1.0)]
Decay = Annotated[Traced, Limits(0.0, 1.0 - 1e-6)]  # of an average that begins at zero
NonNegative = Annotated[Traced, Limits(0.0)]
Positive = Annotated[Traced, Limits(1e-9)]  # something is divided by it
Fraction = Annotated[float, Limits(0.0, 1.0)]  # that shapes the program
Count = Annotated[int, Limits(1)]  # how many there are
Number = Annotated[int, Limits(0)]  # how many there are, or none


def may_be_traced(kind: Any) -> bool:
    """Whether a field's type is `Traced`, with limits or without."""
    return _FLOAT_FLAG in getattr(kind, "__metadata__", ())


def is_known(value: int | float | np.number | Array) -> bool:
    """Whether a setting is a number when the program is built; one that is traced is not."""
    return isinstance(value, (int, float, np.number))


def known_to_be(value: int | float | np.number | Array, constant: float) -> bool:
    """Whether a setting is `constant` when the program is built; one that is traced never is."""
    return is_known(value) and bool(value == constant)


def check_fields(settings: Any) -> None:
    """Raises ValueError, in one line, where a field of a dataclass is not what its type says.

    Command lines are parsed by these types; this is for Python and for files. An array's values are not
    looked at: a sweep's are not known when the program is built.
    """
    for field in dataclasses.fields(settings):
        check_value(field.name, getattr(settings, field.name), field.type)


def check_value(name: str, value: Any, kind: Any) -> None:
    """Raises ValueError, in one line, where a value is not of a field's type."""
    limits = next((x for x in getattr(kind, "__metadata__", ()) if isinstance(x, Limits)), None)
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        if value not in choices:
            said = ", ".join(map(str, choices))
            raise ValueError(f"{name} is {value!r}; choose from {said}")
    elif typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            raise ValueError(f"{name} is {value!r}; it has to be a tuple")
        for item in value:
            check_value(name, item, choices[0])
    elif kind is not Any and not any(_is_a(value, one) for one in choices or (kind,)):
        wanted = " or ".join(one.__name__ for one in choices or (kind,) if one is not Array)
        raise ValueError(f"{name} is {value!r}; it has to be of type {wanted}")
    if limits is not None and not isinstance(value, (jax.Array, np.ndarray)):
        if limits.most < math.inf and not limits.least <= value <= limits.most:
            raise ValueError(
                f"{name} ({value:g}) must be between {limits.least:g} and {limits.most:g}"
            )
        if not value >= limits.least:
            raise ValueError(f"{name} must be at least {limits.least:g}, not {value:g}")


def _is_a(value: Any, kind: type) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    more = {float: (int, np.number), int: (np.integer,), Array: (np.ndarray,)}.get(kind, ())
    return isinstance(value, (kind, *more))
