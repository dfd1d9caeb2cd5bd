"""The analytic tasks: their dynamics and optima against what pen and paper say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.envs.analytic import (
    LQR,
    bandit,
    bandit_reward,
    double_integrator,
    linear_cost,
    lqr,
    pendulum,
    riccati,
    two_routes,
)
from rpgjax.envs.analytic.pendulum import Pendulum
from rpgjax.envs.episodes import episodes

TASKS = [lqr, double_integrator, pendulum, bandit, two_routes]


def trajectory(task, state, actions):
    """States (T + 1, state) and rewards (T,) from the vector `state` under actions (T, action)."""

    def step(x, action):
        outcome = task.transition(x, action)
        return outcome.state, (outcome.state, outcome.reward)

    _, (states, rewards) = jax.jit(lambda x, a: jax.lax.scan(step, x, a))(state, actions)
    return np.concatenate([state[None], states]), np.asarray(rewards)


@pytest.mark.parametrize("build", TASKS)
def test_sizes_and_random_starts(build):
    env = build()
    made = episodes(env, 10, bank_size=8)
    bank = made.sample_bank(jax.random.key(0))
    assert made.observation_size == env.observation_size == bank.obs.shape[1]
    assert made.action_size == env.action_size
    state = made.reset(bank, jax.random.key(1))
    _, step = made.step(bank, state, jnp.zeros(env.action_size), jax.random.key(2))
    assert step.finite and step.reward.shape == ()
    if build is not bandit:
        assert np.unique(np.asarray(bank.obs), axis=0).shape[0] == 8


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_riccati_is_what_a_long_rollout_costs(discount):
    task = lqr()
    solution = riccati(task, discount)
    first = jnp.array([1.0, -0.5, 0.3, 0.8])

    def step(x, _):
        action = -jnp.asarray(solution.gain, jnp.float32) @ x
        outcome = task.transition(x, action)
        return outcome.state, outcome.reward

    _, rewards = jax.lax.scan(step, first, length=400)
    total = np.sum(np.asarray(rewards, np.float64) * discount ** np.arange(400))
    np.testing.assert_allclose(-total, first @ solution.cost @ first, rtol=1e-4)
    assert -rewards[-1] < 1e-6  # the horizon was long enough


def test_riccati_with_a_horizon_is_the_least_squares_optimum():
    # The same problem written as one quadratic in all actions, and minimised directly.
    task, steps, discount = lqr(), 6, 0.95
    first = np.array([1.0, -0.5, 0.3, 0.8])
    a, b = task.dynamics, task.scale * task.control

    def cost(actions):
        x, total = first, 0.0
        for t, action in enumerate(actions.reshape(steps, -1)):
            u = task.scale * action
            total += discount**t * (x @ task.state_cost @ x + u @ task.control_cost @ u)
            x = a @ x + b @ action
        return total

    # Exact for a quadratic: its values at 0, at unit vectors and at their sums give it whole.
    size = steps * task.action_size
    units = np.eye(size)
    zero = cost(np.zeros(size))
    single = np.array([cost(e) for e in units])
    twice = np.array([[cost(e + f) for e in units] for f in units])
    hessian = twice - single[:, None] - single[None] + zero
    linear = single - zero - np.diag(hessian) / 2
    best = np.linalg.solve(hessian, -linear)

    solution = riccati(task, discount, steps)
    assert solution.cost.shape == (steps + 1, 4, 4) and solution.gain.shape == (steps, 2, 4)
    np.testing.assert_allclose(first @ solution.cost[0] @ first, cost(best), rtol=1e-9)
    np.testing.assert_allclose(-solution.gain[0] @ first, best[:2], rtol=1e-6)
    np.testing.assert_array_equal(solution.cost[-1], 0.0)


def test_a_long_horizon_is_the_infinite_one():
    task = lqr()
    infinite, long = riccati(task, 0.97), riccati(task, 0.97, 600)
    np.testing.assert_allclose(long.cost[0], infinite.cost, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(long.gain[0], infinite.gain, rtol=1e-9, atol=1e-12)


def test_linear_cost_is_least_at_the_riccati_gain():
    task, discount = lqr(), 0.95
    solution = riccati(task, discount)
    best = linear_cost(task, solution.gain, discount)
    np.testing.assert_allclose(best, solution.cost, rtol=1e-9, atol=1e-10)
    rng = np.random.default_rng(0)
    for _ in range(5):
        other = linear_cost(task, solution.gain + 0.05 * rng.normal(size=(2, 4)), discount)
        assert np.linalg.eigvalsh(other - best).min() > -1e-9
        assert np.trace(other) > np.trace(best)


def test_linear_cost_is_what_a_rollout_costs_and_its_gradient():
    task, discount, steps = lqr(), 0.95, 12
    gain = 0.8 * riccati(task).gain + 0.05
    first = jnp.array([1.0, -0.5, 0.3, 0.8])

    def cost(gain):
        x, total = first, 0.0
        for t in range(steps):
            outcome = task.transition(x, -gain @ x)
            total -= discount**t * outcome.reward
            x = outcome.state
        return total

    def exact(gain):
        return np.asarray(first) @ linear_cost(task, gain, discount, steps) @ np.asarray(first)

    value, gradient = jax.jit(jax.value_and_grad(cost))(jnp.asarray(gain, jnp.float32))
    np.testing.assert_allclose(value, exact(gain), rtol=1e-5)
    differences = np.zeros_like(gain)
    for index in np.ndindex(*gain.shape):
        shift = np.zeros_like(gain)
        shift[index] = 1e-5
        differences[index] = (exact(gain + shift) - exact(gain - shift)) / 2e-5
    np.testing.assert_allclose(gradient, differences, rtol=2e-4, atol=1e-4)


def test_lqr_is_unstable_without_control_and_says_so():
    task = lqr()
    assert np.abs(np.linalg.eigvals(task.dynamics)).max() > 1.0
    with pytest.raises(RuntimeError, match="does not converge"):
        linear_cost(task, np.zeros((2, 4)))


def test_lqr_checks_its_shapes():
    with pytest.raises(ValueError, match="do not fit"):
        LQR(np.eye(3), np.ones((2, 1)), np.eye(2), np.eye(1))


def test_lqr_actions_are_not_clipped():
    task = lqr()
    x = jnp.zeros(4)
    small, large = (task.transition(x, a * jnp.ones(2)).state for a in (1.0, 5.0))
    np.testing.assert_allclose(large, 5.0 * small, rtol=1e-6)


def test_double_integrator_moves_as_a_thrown_stone():
    task = double_integrator()
    states, _ = trajectory(task, jnp.array([-1.0, 0.0]), jnp.full((10, 1), 0.5))
    t = 10
    np.testing.assert_allclose(states[-1, 1], t * 0.1 * 2.0 * 0.5, rtol=1e-5)
    np.testing.assert_allclose(states[-1, 0], -1.0 + 0.1**2 * 1.0 * t * (t + 1) / 2, rtol=1e-5)


def test_double_integrator_ends_at_its_wall_only():
    task = double_integrator()
    for position, velocity, done in [(1.0, 0.0, False), (1.15, 0.4, False), (1.15, 0.6, True)]:
        outcome = task.transition(jnp.array([position, velocity]), jnp.zeros(1))
        assert outcome.done == done
    resting = task.transition(jnp.array([1.0, 0.0]), jnp.zeros(1))
    np.testing.assert_allclose(resting.reward, 1.0)


def test_full_speed_hits_the_wall():
    task = episodes(double_integrator(), 100, bank_size=4)
    bank = task.sample_bank(jax.random.key(0))

    def step(state, key):
        return task.step(bank, state, jnp.ones(1), key)

    state = task.reset(bank, jax.random.key(1))
    _, steps = jax.lax.scan(step, state, jax.random.split(jax.random.key(2), 40))
    assert steps.terminated.any() and not steps.truncated.any()
    at_end = steps.final_observation[steps.terminated]
    assert (at_end[:, 0] > 1.2).all() and (steps.observation[steps.terminated][:, 0] < 0).all()


def energy(states):
    """Of the default rod, in J: (T, 2) to (T,)."""
    return states[:, 1] ** 2 / 6.0 + 5.0 * np.cos(states[:, 0])


def test_a_free_pendulum_keeps_its_energy_to_first_order():
    first = jnp.array([2.0, 0.5])

    def drift(dt):
        states, _ = trajectory(Pendulum(dt=dt), first, jnp.zeros((round(2.0 / dt), 1)))
        return np.abs(energy(states) - energy(states[:1])).max()

    coarse, fine = drift(0.01), drift(0.005)
    assert 0 < coarse < 0.3
    np.testing.assert_allclose(coarse / fine, 2.0, rtol=0.1)


def test_small_swings_have_the_period_of_a_rod():
    dt, steps = 0.005, 400
    swing = 0.05
    states, _ = trajectory(Pendulum(dt=dt), jnp.array([jnp.pi + swing, 0.0]), jnp.zeros((steps, 1)))
    omega = np.sqrt(1.5 * 10.0 / 1.0)
    expected = swing * np.cos(omega * dt * np.arange(steps + 1))
    np.testing.assert_allclose(states[:, 0] - np.pi, expected, atol=0.02 * swing)


def test_the_motor_holds_the_rod_up_to_its_limit_only():
    task = pendulum()
    for lean, held in [(0.39, True), (0.41, False)]:
        outcome = task.transition(jnp.array([np.arcsin(lean), 0.0]), jnp.array([-1.0]))
        assert (outcome.state[1] < 0) == held
    beyond = task.transition(jnp.array([1.0, 0.0]), jnp.array([-3.0]))
    np.testing.assert_array_equal(
        beyond.state, task.transition(jnp.array([1.0, 0.0]), jnp.array([-1.0])).state
    )


def test_pendulum_rewards_standing():
    task = pendulum()
    upright, hanging = (task.transition(jnp.array([x, 0.0]), jnp.zeros(1)) for x in (0.0, jnp.pi))
    np.testing.assert_allclose(upright.reward, 0.0)
    np.testing.assert_allclose(upright.state, 0.0)
    np.testing.assert_allclose(hanging.reward, -4.0)
    near = task.transition(jnp.array([0.02, 0.0]), jnp.zeros(1))
    np.testing.assert_allclose(near.reward, -(0.02**2), rtol=1e-3)


def test_bandit_modes_are_where_the_paper_has_them():
    x = np.linspace(-1.0, 1.0, 200_001)
    reward = np.asarray(bandit_reward(jnp.asarray(x)))
    best = reward.argmax()
    np.testing.assert_allclose([x[best], reward[best]], [-0.6, 1.1], atol=1e-4)
    right = x > 0
    second = reward[right].argmax()
    np.testing.assert_allclose([x[right][second], reward[right][second]], [0.875, 0.5], atol=1e-3)
    assert bandit_reward(jnp.float32(0.875)) == 0.0  # the cliff
    flat = ((x > -0.476) & (x < -0.126)) | (x < -0.724) | (x >= 0.875)
    assert (reward[flat] == 0).all() and (reward[~flat] >= 0).all()


def test_bandit_ends_after_one_step_with_its_reward():
    task = episodes(bandit(), 10, bank_size=2)
    bank = task.sample_bank(jax.random.key(0))
    state = task.reset(bank, jax.random.key(1))

    def reward(action):
        state_after, step = task.step(bank, state, action, jax.random.key(2))
        return step.reward, (step, state_after)

    gradient, (step, after) = jax.grad(reward, has_aux=True)(jnp.array([-0.65]))
    np.testing.assert_allclose(step.reward, 1.1 - 18 * 0.1**2, rtol=1e-5)
    np.testing.assert_allclose(gradient, [7.2], rtol=1e-4)
    assert step.terminated and not step.truncated and after.step_count == 0


def test_two_routes_are_mirror_images_and_the_way_between_is_bad():
    task = two_routes()
    start = jnp.array([-1.0, 0.0])
    straight = jnp.tile(jnp.array([1.0, 0.0]), (40, 1)).at[20:].set(0.0)
    above = straight.at[:10, 1].set(0.8).at[10:20, 1].set(-0.8)
    routes = {
        name: trajectory(task, start, actions)
        for name, actions in (
            ("straight", straight),
            ("above", above),
            ("below", above.at[:, 1].multiply(-1.0)),
        )
    }
    returns = {name: rewards.sum() for name, (_, rewards) in routes.items()}
    assert returns["above"] == pytest.approx(returns["below"], rel=1e-5)
    assert returns["above"] > returns["straight"] + 15
    # All three end on the goal, where a step pays 1 - 0.1 / 2 and the hill is out of reach.
    for states, rewards in routes.values():
        np.testing.assert_allclose(states[-1], [1.0, 0.0], atol=1e-5)
        assert rewards[-1] == pytest.approx(0.95 - 3.0 * np.exp(-1 / 0.4**2), abs=1e-5)

    def total(actions):
        def step(x, action):
            outcome = task.transition(x, action)
            return outcome.state, outcome.reward

        return jnp.sum(jax.lax.scan(step, start, actions)[1])

    # On the straight way the gradient of the return does not say which way round; beside it, it does.
    pull = jax.grad(total)(straight)
    np.testing.assert_allclose(pull[:, 1], 0.0, atol=1e-6)
    assert float(jnp.abs(pull[:, 0]).max()) > 0.01
    for side in (0.01, -0.01):
        assert np.sign(jax.grad(total)(straight.at[0, 1].set(side))[0, 1]) == np.sign(side)
