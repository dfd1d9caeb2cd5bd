import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from rpgjax.objectives.flow_matching import (
    flow_matching_loss,
    mean_flow_matching,
    uniform_target,
    uniform_targets,
)
from rpgjax.policies import flow, velocity_field

SIZE = 2


def train_on(target, updates=1500, batch=256):
    """A flow head trained on flow matching alone, towards `target(key) -> (SIZE,)`; its samples."""
    field = velocity_field(1, SIZE, hidden=(64, 64))
    head = flow(field, SIZE, steps=20)
    observation = jnp.zeros(1)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, updates))
    params = head.init(jax.random.key(0))

    def loss(params, key):
        def one(key):
            target_key, noise_key = jax.random.split(key)
            velocity = lambda x, u: field.apply(params, observation, x, u)  # noqa: E731
            return flow_matching_loss(velocity, target(target_key), noise_key)

        return jnp.mean(jax.vmap(one)(jax.random.split(key, batch)))

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(params, key):
        keys = jax.random.split(key, updates)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        draw = lambda key: head.sample(params, (), observation, key)[1].action  # noqa: E731
        return jax.vmap(draw)(jax.random.split(key, 20_000))

    return np.asarray(run(params, jax.random.key(1)))


def test_the_uniform_regularizer_alone_makes_the_flow_uniform_in_the_action_box():
    actions = train_on(lambda key: uniform_target(key, SIZE))
    for dimension in range(SIZE):
        distance = stats.kstest(actions[:, dimension], stats.uniform(-1, 2).cdf).statistic
        assert distance < 0.025, f"KS distance {distance} in dimension {dimension}"
    # The untrained flow, tanh of a Gaussian, is not far from uniform: it must fail the same test.
    untrained = np.tanh(np.random.default_rng(0).normal(size=20_000))
    assert stats.kstest(untrained, stats.uniform(-1, 2).cdf).statistic > 0.045


def test_a_flow_holds_both_modes_of_a_two_mode_target():
    def two_modes(key):
        sign = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        return jnp.full(SIZE, 1.2) * sign

    actions = train_on(two_modes)
    mode = np.tanh(1.2)
    near = [np.all(np.abs(actions - s * mode) < 0.15, axis=1).mean() for s in (-1, 1)]
    assert min(near) > 0.3, f"share near each mode: {near}"


def test_targets_carry_no_gradient_and_the_loss_is_zero_for_the_true_velocity():
    target, key = jnp.array([0.5, -1.0]), jax.random.key(0)
    # For one target the conditional velocity is (z1 - x) / (1 - u).
    exact = lambda x, u: (target - x) / (1.0 - u)  # noqa: E731
    assert flow_matching_loss(exact, target, key) < 1e-6
    wrong = flow_matching_loss(lambda x, u: jnp.zeros(SIZE), target, key)
    assert wrong > 0.1
    through = jax.grad(lambda z: flow_matching_loss(lambda x, u: 0.0 * target, z, key))(target)
    np.testing.assert_array_equal(through, 0.0)


@pytest.mark.parametrize("margin", [1e-1, 1e-3])
def test_uniform_targets_stay_inside_the_margin(margin):
    targets = jax.vmap(lambda k: uniform_target(k, 3, margin))(
        jax.random.split(jax.random.key(0), 2000)
    )
    reach = np.abs(np.tanh(targets)).max()
    assert reach <= 1.0 - margin + 1e-5
    assert reach > 1.0 - margin - 0.02


def test_the_mean_over_a_window_counts_what_has_weight():
    keys = jax.random.split(jax.random.key(2), 2)
    seen, target = jax.random.normal(keys[0], (3, 4, 1)), uniform_targets(keys[1], (3, 4), SIZE)
    assert target.shape == (3, 4, SIZE) and len(np.unique(target)) == 3 * 4 * SIZE
    weight = jnp.zeros((3, 4)).at[1, 2].set(1.0).at[2, 0].set(3.0)

    def velocity(seen, x, u):
        return seen * x

    each = jax.random.split(jax.random.key(3), (3, 4))
    at = [(1, 2), (2, 0)]
    losses = [
        flow_matching_loss(lambda x, u, i=i: velocity(seen[i], x, u), target[i], each[i])
        for i in at
    ]
    expected = (losses[0] + 3.0 * losses[1]) / 4.0
    got = mean_flow_matching(velocity, seen, target, weight, jax.random.key(3))
    assert float(got) == pytest.approx(float(expected), rel=1e-5)
    nothing = mean_flow_matching(velocity, seen, target, 0.0 * weight, jax.random.key(3))
    assert float(nothing) == 0.0
