"""Novelty as agents learn it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rpgjax.agents.exploration import distil, no_explorer
from rpgjax.objectives.novelty import intrinsic_reward, random_network


@pytest.mark.parametrize("size", [1e10, 1e20], ids=["squares overflow", "errors overflow"])
def test_dynamics_about_to_break_are_no_yardstick(size):
    novelty, optimizer = random_network(3, width=8), optax.adam(1e-3)
    explorer = no_explorer(novelty, optimizer, jax.random.key(0))
    near = jax.random.normal(jax.random.key(1), (5, 3))
    counted = jnp.array(True)
    explorer, _ = distil(novelty, optimizer, explorer, near, counted)
    after, _ = distil(novelty, optimizer, explorer, near.at[0].set(size), counted)
    assert after.spread == explorer.spread
    after, errors = distil(novelty, optimizer, after, near, counted)
    assert float(after.spread.count) == 10.0
    assert np.ptp(intrinsic_reward(after.spread, errors)) > 0
