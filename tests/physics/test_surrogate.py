"""Exact forward, smooth backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax import envs
from brax.envs import Wrapper

from rpgjax.envs.registry import softness
from rpgjax.physics.backends import differentiable
from rpgjax.physics.compliant import compliant
from rpgjax.physics.surrogate import body_of, surrogate

pytestmark = pytest.mark.usefixtures("brax_physics")


@pytest.fixture(scope="module")
def environments():
    exact = differentiable(envs.get_environment("inverted_double_pendulum", backend="spring"))
    smooth = compliant(envs.get_environment("inverted_double_pendulum", backend="generalized"))
    return exact, smooth, surrogate(exact, smooth)


def test_states_are_the_exact_ones_to_the_bit(environments):
    exact, smooth, both = environments
    state = jax.jit(exact.reset)(jax.random.key(0))
    other, alien = state, jax.jit(smooth.reset)(jax.random.key(0))
    for _ in range(5):
        state = jax.jit(exact.step)(state, jnp.array([0.7]))
        other = jax.jit(both.step)(other, jnp.array([0.7]))
        alien = jax.jit(smooth.step)(alien, jnp.array([0.7]))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, state, other)))
    assert not np.array_equal(state.pipeline_state.q, alien.pipeline_state.q)


def test_a_steps_gradient_is_the_smooth_ones_from_the_same_place(environments):
    exact, smooth, both = environments
    start = jax.jit(exact.reset)(jax.random.key(1))
    q, qd = start.pipeline_state.q, start.pipeline_state.qd

    def of_both(q, qd, action):
        after = both.pipeline_step(start.pipeline_state.replace(q=q, qd=qd), action)
        return jnp.sum(jnp.sin(3.0 * after.q)) + jnp.sum(after.xd.vel) + jnp.sum(after.x.pos**2)

    def weights(after):
        """The same sum's slopes, at the exact step's end."""
        return jax.grad(
            lambda q, vel, pos: jnp.sum(jnp.sin(3.0 * q)) + jnp.sum(vel) + jnp.sum(pos**2),
            argnums=(0, 1, 2),
        )(after.q, after.xd.vel, after.x.pos)

    action = jnp.array([0.4])
    got = jax.jit(jax.grad(of_both, argnums=(0, 1, 2)))(q, qd, action)
    slopes = weights(exact.pipeline_step(start.pipeline_state, action))

    def of_smooth(q, qd, action):
        after = smooth.pipeline_step(smooth.pipeline_init(q, qd), action)
        parts = zip(slopes, (after.q, after.xd.vel, after.x.pos), strict=True)
        return sum(jnp.sum(slope * value) for slope, value in parts)

    expected = jax.jit(jax.grad(of_smooth, argnums=(0, 1, 2)))(q, qd, action)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert np.abs(got[2]).max() > 0


def test_steps_must_be_equally_long(environments):
    _, smooth, _ = environments
    other = envs.get_environment("inverted_double_pendulum", backend="spring")
    other._n_frames *= 2
    with pytest.raises(ValueError, match="a step of the exact physics is"):
        surrogate(other, smooth)


def test_what_would_change_nothing_is_refused(environments):
    exact, smooth, _ = environments
    with pytest.raises(ValueError, match="surrogate wants a InvertedDoublePendulum without"):
        surrogate(Wrapper(exact), smooth)
    with pytest.raises(ValueError, match="before compliant"):
        body_of(exact, smooth)
    generalized = envs.get_environment("inverted_pendulum", backend="generalized")
    with pytest.raises(ValueError, match="compliant wants a InvertedPendulum without wrappers"):
        compliant(Wrapper(generalized))


def test_motors_move_the_same_body():
    # Brax's spring physics has masses and inertias of its own: in the air a motor does what it does there.
    exact = differentiable(envs.get_environment("hopper", backend="spring"))
    model = envs.get_environment("hopper", backend="generalized")
    q, qd = model.sys.init_q.at[1].add(1.0), jnp.zeros(model.sys.qd_size())

    def kicks(env):
        """What each motor does to the velocities (motor, qd)."""
        start, step = env.pipeline_init(q, qd), jax.jit(env.pipeline_step)
        actions = 0.3 * jnp.eye(env.action_size)
        return np.array([step(start, action).qd - step(start, -action).qd for action in actions])

    expected = kicks(exact)

    def far(env):
        return np.linalg.norm(kicks(compliant(env)) - expected) / np.linalg.norm(expected)

    assert far(body_of(exact, model)) < 0.15
    assert far(model) > 0.5


def test_joints_have_no_springs_where_those_that_are_stepped_have_none():
    # Halfcheetah's have 60 to 240 N m in its model; Brax's spring physics does not read them.
    exact = differentiable(envs.get_environment("halfcheetah", backend="spring"))
    model = envs.get_environment("halfcheetah", backend="generalized")
    draw = np.random.default_rng(0)
    q = np.tile(model.sys.init_q.at[1].add(1.0), (8, 1))  # in the air
    q[:, 3:] += 0.2 * draw.normal(size=q[:, 3:].shape)
    qd = 2.0 * draw.normal(size=(8, model.sys.qd_size()))
    qd[:, :3] *= 0.2

    def changes(env):
        """Of velocities in a step without action, (8, qd)."""
        state = jax.jit(jax.vmap(env.pipeline_init))(jnp.asarray(q), jnp.asarray(qd))
        step = jax.jit(jax.vmap(env.pipeline_step))
        return np.asarray(step(state, jnp.zeros((8, env.action_size))).qd) - qd

    expected = changes(exact)

    def far(env):
        found = changes(compliant(env, softness("halfcheetah", "spring-smoothed")))
        return np.linalg.norm(found - expected) / np.linalg.norm(expected)

    assert far(body_of(exact, model)) < 0.45
    assert far(model) > 1.0
