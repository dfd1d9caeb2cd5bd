"""AHAC's horizon: cut where the cotangent grows, longer again where it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.physics.adaptive_horizon import (
    AdaptiveHorizon,
    adapt,
    cut_and_measure,
    full_horizon,
    growth,
    piece_starts,
)


def backward(gains, horizon):
    """Slopes of the last state with respect to each step's parameter, and the norms, (T,) each."""
    keep = jnp.where(piece_starts(horizon), 0.0, 1.0)

    def final(pushes, probes):
        def step(state, inputs):
            gain, push, keep, probe = inputs
            x, count = cut_and_measure(state, keep, probe)
            return (gain * x + push, count + 1), None

        start = (jnp.float32(1.0), jnp.int32(0))
        return jax.lax.scan(step, start, (gains, pushes, keep, probes))[0][0]

    zeros = jnp.zeros(len(gains))
    return jax.grad(final, argnums=(0, 1))(zeros, zeros)


def test_norms_are_measured_and_nothing_crosses_a_cut():
    gains = jnp.array([2.0, 3.0, 0.5, 4.0])
    slopes, norms = backward(gains, full_horizon(4))
    assert jnp.allclose(slopes, jnp.array([6.0, 2.0, 4.0, 1.0]))
    assert jnp.allclose(norms, jnp.array([12.0, 6.0, 2.0, 4.0]))
    slopes, norms = backward(gains, AdaptiveHorizon(jnp.float32(2.0), jnp.zeros(4)))
    assert jnp.allclose(slopes, jnp.array([0.0, 0.0, 4.0, 1.0]))
    assert jnp.allclose(norms, jnp.array([0.0, 0.0, 2.0, 4.0]))


def test_an_infinite_cotangent_does_not_cross_a_cut():
    gains = jnp.array([2.0, 3.0, jnp.inf, 4.0])
    slopes, _ = backward(gains, AdaptiveHorizon(jnp.float32(2.0), jnp.zeros(4)))
    assert jnp.array_equal(slopes[:2], jnp.zeros(2))


def test_pieces_start_every_so_many_steps():
    horizon = AdaptiveHorizon(jnp.float32(2.6), jnp.zeros(7))  # 3, rounded
    assert piece_starts(horizon).tolist() == [True, False, False, True, False, False, True]
    assert piece_starts(full_horizon(3)).tolist() == [True, False, False]


def test_growth_is_the_mean_over_environments_and_pieces_at_each_position():
    norms = jnp.array([[8.0, 4.0], [2.0, 2.0], [9.0, 5.0], [3.0, 1.0], [1.0, 1.0]])
    pieces = AdaptiveHorizon(jnp.float32(2.0), jnp.zeros(5))
    # 8/2, 4/2, 9/3, 5/1 in the two whole pieces; the third has one step only.
    np.testing.assert_allclose(growth(norms, pieces), [3.5, 0.0, 0.0, 0.0, 0.0])
    whole = growth(norms, full_horizon(5))
    np.testing.assert_allclose(whole, [3.0, (2 / 9 + 2 / 5) / 2, 4.0, 2.0, 0.0], rtol=1e-6)


def test_growth_of_nothing_is_nothing_and_that_of_infinity_is_huge():
    norms = jnp.array([[jnp.inf, 0.0], [1.0, 0.0]])
    assert growth(norms, full_horizon(2)).tolist() == [1e6, 0.0]
    norms = jnp.array([[jnp.nan, 6.0], [1.0, 2.0]])
    assert growth(norms, full_horizon(2)).tolist() == [3.0, 0.0], "a number that broke says nothing"


@pytest.mark.parametrize(("found", "longer"), [(3.0, False), (1.2, False), (0.5, True)])
def test_the_horizon_follows_the_constraint(found, longer):
    horizon = AdaptiveHorizon(jnp.float32(8.0), jnp.zeros(16))
    lengths = []
    for _ in range(400):
        horizon = adapt(horizon, jnp.full(16, found), 1.0, 0.05)
        lengths.append(float(horizon.steps))
        assert 1.0 <= lengths[-1] <= 16.0
    assert lengths[0] > 8.0 if longer else lengths[0] < 8.0
    assert lengths[-1] == (16.0 if longer else 1.0)


def test_a_limit_of_zero_leaves_the_window_whole():
    horizon = full_horizon(16)
    for _ in range(5):
        horizon = adapt(horizon, jnp.full(16, 1e6), jnp.float32(0.0), 0.05)
    assert float(horizon.steps) == 16.0


def test_a_horizon_of_one_step_grows_again():
    horizon = AdaptiveHorizon(jnp.float32(1.0), jnp.zeros(16))
    unknown = jnp.zeros(16)
    for _ in range(50):
        horizon = adapt(horizon, unknown, 1.0, 0.05)
    assert float(horizon.steps) > 1.0
