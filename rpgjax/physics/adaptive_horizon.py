"""Windows cut into shorter pieces where the dynamics are stiff: AHAC's adaptive horizon.

Adaptive Horizon Actor-Critic (Georgiev et al., ICML 2024) maximises the return over a horizon H under
the constraint that a step's Jacobian stays below a limit, ||df/ds|| <= C, by a multiplier for each step:

    multiplier_t <- multiplier_t + rate (||df/ds||_t - C),    H <- H - rate sum_t multiplier_t

A compiled window has a fixed length, so here a window of T steps is cut into pieces of H, the last one
shorter: nothing that was simulated is thrown away, and the critic bootstraps each piece. Two things are
ours: ||df/ds|| is the growth of the state's cotangent over the step, which the backward pass has anyway
(the paper differentiates the contact model), and the constraint is told as a ratio, cut off at 2.
"""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from rpgjax.physics.stabilizers import cotangent_norm, is_float
from rpgjax.types import Array

Tree = TypeVar("Tree")


class AdaptiveHorizon(NamedTuple):
    """What is remembered from update to update."""

    steps: Array  # () float32, H, between 1 and T
    multipliers: Array  # (T,), of the steps of a piece


def full_horizon(window: int) -> AdaptiveHorizon:
    """The whole window in one piece, no multiplier raised."""
    return AdaptiveHorizon(jnp.float32(window), jnp.zeros(window))


def piece_starts(horizon: AdaptiveHorizon) -> Array:
    """True where a piece starts, (T,)."""
    return _position(horizon) == 0


@jax.custom_vjp
def cut_and_measure(tree: Tree, keep: Array, probe: Array) -> Tree:
    """Identity. Backward: the cotangent times `keep` (0 where a piece starts).

    The norm that it had arrives as the gradient with respect to `probe`, ().
    """
    del keep, probe
    return tree


def _forward(tree: Any, keep: Array, probe: Array) -> tuple[Any, Array]:
    del probe
    return tree, keep


def _backward(keep: Array, cotangent: Any) -> tuple[Any, Array, Array]:
    # Not a product: 0 * inf would carry over the cut what the cut is to stop.
    cut = jax.tree.map(
        lambda x: jnp.where(keep > 0, x, jnp.zeros_like(x)) if is_float(x) else x, cotangent
    )
    return cut, jnp.zeros_like(keep), cotangent_norm(cotangent)


cut_and_measure.defvjp(_forward, _backward)


def growth(norms: Array, horizon: AdaptiveHorizon) -> Array:
    """How much the cotangent grows over a step on its way back, at each position of a piece, (T,).

    The mean over environments and pieces, no ratio counted above 1e6; 0 where nothing is known: at a
    piece's last step, and where the later norm is 0.

    Args:
        norms: (T, B), as `cut_and_measure` found them.
        horizon: where the pieces lay.
    """
    position = _position(horizon)
    before, after = norms[:-1], norms[1:]
    known = jnp.isfinite(after) & (after > 0) & ~jnp.isnan(before)
    known &= (position[1:] > 0)[:, None]
    ratio = jnp.where(known, jnp.minimum(before / jnp.where(known, after, 1.0), 1e6), 0.0)
    total = jnp.zeros(norms.shape[0]).at[position[:-1]].add(ratio.sum(axis=1))
    count = jnp.zeros(norms.shape[0]).at[position[:-1]].add(known.sum(axis=1))
    return total / jnp.maximum(count, 1.0)


def adapt(
    horizon: AdaptiveHorizon, growth: Array, limit: Array | float, rate: Array | float
) -> AdaptiveHorizon:
    """One step of the dual ascent: shorter while `growth` (T,) is above `limit`, else longer.

    A limit of 0 is how a sweep says off: the horizon goes to the whole window and stays there.
    """
    window = growth.shape[0]
    # A piece's last step has nothing to grow from. Of a single step no growth is known: it gets longer.
    inside = jnp.arange(window) < jnp.maximum(jnp.round(horizon.steps) - 1, 1)
    error = jnp.where(limit > 0, jnp.minimum(growth / limit, 2.0), 0.0) - 1.0
    multipliers = jnp.clip(horizon.multipliers + rate * jnp.where(inside, error, 0.0), -1.0, 1.0)
    steps = horizon.steps - rate * jnp.sum(jnp.where(inside, multipliers, 0.0))
    return AdaptiveHorizon(jnp.clip(steps, 1.0, window), multipliers)


def _position(horizon: AdaptiveHorizon) -> Array:
    """Where in its piece each step of the window is, (T,) int32."""
    length = jnp.round(horizon.steps).astype(jnp.int32)
    return jnp.arange(horizon.multipliers.shape[0], dtype=jnp.int32) % length
