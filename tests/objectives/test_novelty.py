"""Novelty: surprise that wears off, measured against all that was ever seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.objectives.novelty import (
    CLIP,
    Spread,
    intrinsic_reward,
    no_spread,
    random_network,
    widen,
)


def test_the_spread_is_that_of_everything_seen():
    batches = [np.random.default_rng(i).normal(i, 1.0 + i, 7 + i) for i in range(4)]
    spread = no_spread()
    for batch in batches:
        spread = widen(spread, jnp.asarray(batch, jnp.float32))
    everything = np.concatenate(batches)
    assert float(spread.count) == everything.size
    assert float(spread.mean) == pytest.approx(everything.mean(), rel=1e-5)
    assert float(spread.squares / spread.count) == pytest.approx(everything.var(), rel=1e-4)


def test_rewards_are_standardised_and_clipped():
    spread = Spread(jnp.float32(10.0), jnp.float32(2.0), jnp.float32(40.0))  # std 2
    got = intrinsic_reward(spread, jnp.array([2.0, 6.0, 1e6, -1e6]))
    np.testing.assert_allclose(got, [0.0, 2.0, CLIP, -CLIP])
    assert float(intrinsic_reward(no_spread(), jnp.float32(5.0))) == 0.0


def test_what_was_learned_is_no_longer_new():
    novelty = random_network(3, width=16)
    params = novelty.init(jax.random.key(0))
    known, new = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 3.0])

    def step(learned, _):
        pull = jax.grad(lambda p: novelty.error(params | {"learned": p}, known))(learned)
        return jax.tree.map(lambda p, g: p - 0.02 * g, learned, pull), None

    learned, _ = jax.jit(lambda p: jax.lax.scan(step, p, None, 200))(params["learned"])
    after = params | {"learned": learned}
    assert float(novelty.error(after, known)) < 1e-3 * float(novelty.error(params, known))
    assert float(novelty.error(after, new)) > 0.2 * float(novelty.error(params, new))


def test_the_fixed_network_stays():
    novelty = random_network(3, width=8)
    params = novelty.init(jax.random.key(0))
    pull = jax.grad(lambda p: novelty.error(p, jnp.ones(3)))(params)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(pull["fixed"]))
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(pull["learned"]))


@pytest.mark.usefixtures("x64")
def test_the_slope_in_the_observation_is_the_errors_own():
    """Physics climbs it: what the fixed network says changes with the observation as well."""
    novelty = random_network(3, width=8)
    params = jax.tree.map(lambda x: x.astype(jnp.float64), novelty.init(jax.random.key(0)))
    where, along = jnp.array([0.3, -0.2, 0.5]), jnp.array([0.6, 0.0, 0.8])
    slope = jax.grad(lambda o: novelty.error(params, o))(where) @ along
    ends = [float(novelty.error(params, where + h * along)) for h in (1e-5, -1e-5)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
