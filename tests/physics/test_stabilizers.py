"""Cotangents on their way back through time."""

import jax
import jax.numpy as jnp
import pytest

from rpgjax.physics.stabilizers import clip_cotangent, decay_cotangent, stabiliser


def unrolled(stabilise, gains, x0=1.0, steps=5):
    """d x_T / d x_0 of x <- gain * x, with an integer beside it in the state."""

    def final(x0):
        def step(state, gain):
            x, count = stabilise(state)
            return (x * gain, count + 1), None

        return jax.lax.scan(step, (x0, jnp.int32(0)), gains)[0][0].sum()

    return jax.value_and_grad(final)(x0)


def test_decay_multiplies_once_a_step_and_leaves_values():
    gains = jnp.full(5, 1.5)
    value, slope = unrolled(lambda s: decay_cotangent(s, 0.9), gains)
    assert value == pytest.approx(1.5**5)
    assert slope == pytest.approx((1.5 * 0.9) ** 5)


def test_clipping_shortens_and_keeps_the_direction():
    x0 = jnp.array([3.0, 4.0])
    gains = jnp.array([[1.0, 1.0], [10.0, 10.0]])
    _, slope = unrolled(lambda s: clip_cotangent(s, 2.0), gains, x0, 2)
    assert jnp.allclose(slope, 2.0 / jnp.sqrt(2.0), rtol=1e-6)
    _, free = unrolled(lambda s: clip_cotangent(s, jnp.inf), gains, x0, 2)
    assert jnp.array_equal(free, jnp.full(2, 10.0))


def test_each_environment_is_clipped_alone():
    def slope(gain):
        return jax.grad(lambda x: gain * clip_cotangent(x, 1.0))(2.0)

    assert jnp.allclose(jax.vmap(slope)(jnp.array([0.5, 7.0])), jnp.array([0.5, 1.0]))


@pytest.mark.parametrize("broken", [jnp.nan, jnp.inf])
def test_what_is_not_finite_is_not_hidden(broken):
    slope = jax.grad(lambda x: broken * clip_cotangent(x, 1.0))(2.0)
    assert not jnp.isfinite(slope)


def test_a_limit_of_zero_is_off_in_a_sweep_too():
    slopes = jax.vmap(lambda limit: jax.grad(lambda x: 7.0 * clip_cotangent(x, limit))(2.0))
    assert slopes(jnp.array([0.0, 3.0])).tolist() == [7.0, 3.0]


def test_a_zero_gradient_stays_zero():
    assert jax.grad(lambda x: 0.0 * clip_cotangent(x, 1.0))(2.0) == 0.0


def test_both_together_and_what_is_off_is_not_there():
    same = {"x": 1.0}
    assert stabiliser(0.0, 1.0)(same) is same
    slope = jax.grad(lambda x: 10.0 * stabiliser(3.0, 0.5)(x))(1.0)
    assert slope == 1.5  # shortened to 3 first: backwards, the last applied is the first met
