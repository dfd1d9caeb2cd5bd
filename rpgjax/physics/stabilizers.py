"""What may be done to a gradient on its way back through time: identities forward, tempered backward.

Each is a function of one environment's state, applied between two steps of a rollout; under `vmap`
every environment is treated alone. All of them trade bias for variance, and all are off by default.
`adaptive_horizon.py` has the one that remembers something from update to update.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from rpgjax.types import Array, known_to_be

Tree = TypeVar("Tree")


def stabiliser(limit: Array | float, keep: Array | float) -> Callable[[Tree], Tree]:
    """Both of the functions below, in one; what is off (a limit of 0, keeping 1) costs nothing."""

    def stabilise(tree: Tree) -> Tree:
        if not known_to_be(keep, 1.0):
            tree = decay_cotangent(tree, keep)
        if not known_to_be(limit, 0.0):
            tree = clip_cotangent(tree, limit)
        return tree

    return stabilise


@jax.custom_vjp
def clip_cotangent(tree: Tree, limit: Array | float) -> Tree:
    """Identity. Backward: the state's cotangent is shortened to a norm of at most `limit`.

    The norm is over all of the state's float entries together, so the direction stays. An infinite
    limit changes nothing, nor does 0, which is how a sweep says off. A norm that is not finite is left
    alone: it has to be seen.
    """
    del limit
    return tree


def _clip_forward(tree: Any, limit: Array | float) -> tuple[Any, Array | float]:
    return tree, limit


def _clip_backward(limit: Array | float, cotangent: Any) -> tuple[Any, Array | float]:
    norm = cotangent_norm(cotangent)
    # 0 / 0 and inf / inf where nothing is to be shortened: the ratio is taken only beyond the limit.
    beyond = jnp.isfinite(norm) & (norm > limit) & (limit > 0)
    scale = jnp.where(beyond, limit / jnp.where(beyond, norm, 1.0), 1.0)
    return _scaled(cotangent, scale), jax.tree.map(jnp.zeros_like, limit)


clip_cotangent.defvjp(_clip_forward, _clip_backward)


@jax.custom_vjp
def decay_cotangent(tree: Tree, keep: Array | float) -> Tree:
    """Identity. Backward: the state's cotangent is multiplied by `keep`.

    Applied between all steps, what a reward k steps ahead says through the dynamics counts keep^k of
    itself: a discount of the gradient alone, that leaves the objective's value as it is.
    """
    del keep
    return tree


def _decay_forward(tree: Any, keep: Array | float) -> tuple[Any, Array | float]:
    return tree, keep


def _decay_backward(keep: Array | float, cotangent: Any) -> tuple[Any, Array | float]:
    return _scaled(cotangent, keep), jax.tree.map(jnp.zeros_like, keep)


decay_cotangent.defvjp(_decay_forward, _decay_backward)


def cotangent_norm(cotangent: Any) -> Array:
    """(), over all float entries together; integers have cotangents that are no arrays."""
    return jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(cotangent) if is_float(x)))


def is_float(x: Any) -> bool:
    """Whether a leaf carries a gradient."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def _scaled(cotangent: Any, scale: Array | float) -> Any:
    """Float leaves times a scale; integers have cotangents that are no arrays."""
    return jax.tree.map(lambda x: (x * scale).astype(x.dtype) if is_float(x) else x, cotangent)
