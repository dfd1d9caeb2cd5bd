"""Novelty as agents learn it: one step of its network, and the yardstick of its errors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rpgjax.agents.agent import descend
from rpgjax.objectives.novelty import Novelty, Spread, no_spread, widen
from rpgjax.types import Array, Key, Params


class Explorer(NamedTuple):
    """What novelty has learned so far."""

    params: Params  # of its networks
    optimizer: optax.OptState
    spread: Spread  # of its errors


def no_explorer(novelty: Novelty, optimizer: optax.GradientTransformation, key: Key) -> Explorer:
    """Before the first observation."""
    params = novelty.init(key)
    return Explorer(params, optimizer.init(params["learned"]), no_spread())


def distil(
    novelty: Novelty,
    optimizer: optax.GradientTransformation,
    explorer: Explorer,
    observations: Array,
    counted: Array,
) -> tuple[Explorer, Array]:
    """One step of novelty's network; returns its errors (B,) at observations (B, obs), before it.

    The spread takes them in where `counted`, (): the errors of a fresh network would be the yardstick for
    all time. So would those of dynamics about to break: a batch whose squares overflow is left out.
    """

    def missed(learned: Params) -> tuple[Array, Array]:
        params = explorer.params | {"learned": learned}
        errors = jax.vmap(lambda o: novelty.error(params, o))(observations)
        return jnp.mean(errors), errors

    learned = explorer.params["learned"]
    pull, errors = jax.grad(missed, has_aux=True)(learned)
    learned, state, _ = descend(optimizer, pull, learned, explorer.optimizer)
    wider = widen(explorer.spread, errors)
    taken = counted & jnp.isfinite(wider.squares)
    spread = jax.tree.map(lambda new, old: jnp.where(taken, new, old), wider, explorer.spread)
    return Explorer(explorer.params | {"learned": learned}, state, spread), errors
