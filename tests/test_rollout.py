import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs import Env, State

from rpgjax.envs import analytic
from rpgjax.envs.episodes import episodes
from rpgjax.objectives.returns import lambda_return, window_objective
from rpgjax.physics.adaptive_horizon import cut_and_measure
from rpgjax.policies import PolicyHead
from rpgjax.policies.head import no_carry, squash
from rpgjax.rollout import guard, start, unroll

DISCOUNT = 0.97


def identity(observation):
    return observation


def linear_head(gain) -> PolicyHead:
    """action = -gain @ observation, exactly: no squashing, no noise."""

    def sample(gain, carry, observation, key):
        action = -gain @ observation
        return carry, squash(action)._replace(action=action)

    return PolicyHead(lambda key: jnp.asarray(gain), no_carry, sample, None)


def closed_form_gradient(task, gain, states, cost_to_go, horizon):
    """d/dK of -sum_t g^t cost_t - g^T x_T' P x_T, averaged over first states, P held fixed."""
    a, b, q = task.dynamics, task.scale * task.control, task.state_cost
    r = task.scale**2 * task.control_cost
    closed = a - b @ gain
    costs = [cost_to_go]  # of the state after the window, then backwards
    for _ in range(horizon):
        costs.append(q + gain.T @ r @ gain + DISCOUNT * closed.T @ costs[-1] @ closed)
    costs = costs[::-1]
    gradient, x = np.zeros_like(gain), states.T  # (state, batch)
    for t in range(horizon):
        moment = x @ x.T / len(states)
        advantage = r @ gain - DISCOUNT * b.T @ costs[t + 1] @ closed
        gradient -= 2 * DISCOUNT**t * advantage @ moment
        x = closed @ x
    return gradient


@pytest.mark.parametrize("bootstrap", [False, True])
def test_the_policy_gradient_equals_the_lqr_closed_form(bootstrap, x64):
    task, horizon, batch = analytic.lqr(), 16, 32
    optimum = analytic.riccati(task, DISCOUNT)
    gain = 0.7 * optimum.gain + 0.05
    cost_to_go = analytic.linear_cost(task, gain, DISCOUNT) if bootstrap else np.zeros((4, 4))
    world = episodes(task, episode_length=10**6)  # no end inside the window
    head = linear_head(gain)
    state = start(head, world, jnp.asarray(gain), identity, jax.random.key(0), batch)
    first = np.asarray(state.episode.env_state.obs)

    def objective(gain):
        unrolled = unroll(head, world, gain, identity, state, jax.random.key(1), horizon)
        window = unrolled[1]
        assert window.reward.shape == (horizon, batch)
        x = window.next_observation
        value = -jnp.einsum("tbi,ij,tbj->tb", x, jnp.asarray(cost_to_go), x)
        ends = window.terminated, window.truncated
        returns = lambda_return(window.reward, value, *ends, DISCOUNT, 1.0)
        return jnp.mean(window_objective(returns, *ends)) * horizon

    gradient = jax.jit(jax.grad(objective))(jnp.asarray(gain))
    expected = closed_form_gradient(task, gain, first, cost_to_go, horizon)
    np.testing.assert_allclose(gradient, expected, rtol=1e-8)
    assert np.abs(expected).max() > 0.1

    # At the optimum, with the optimal value behind the window, the gradient vanishes for any states.
    if bootstrap:
        cost_to_go = optimum.cost
        at_optimum = jax.jit(jax.grad(objective))(jnp.asarray(optimum.gain))
        assert np.abs(at_optimum).max() < 1e-8 * np.abs(expected).max()


def test_windows_join_without_a_seam():
    """Two windows of 5 visit the states that one of 10 visits: only the gradient is cut."""
    task = analytic.lqr()
    world = episodes(task, episode_length=7)
    head = linear_head(np.full((2, 4), 0.3))
    params = head.init(jax.random.key(0))
    state = start(head, world, params, identity, jax.random.key(0), 3)
    after, first = unroll(head, world, params, identity, state, jax.random.key(1), 5)
    np.testing.assert_array_equal(after.episode.env_state.obs.shape, (3, 4))
    _, second = unroll(head, world, params, identity, after, jax.random.key(2), 5)
    ended = first.terminated[-1] | first.truncated[-1]
    np.testing.assert_array_equal(second.observation[0][~ended], first.next_observation[-1][~ended])
    goes_on = ~(first.terminated | first.truncated)[:-1]
    np.testing.assert_array_equal(
        first.observation[1:][goes_on], first.next_observation[:-1][goes_on]
    )
    assert not np.all(goes_on), "the window must contain a reset for the test to say something"

    def second_reward(params):
        after, _ = unroll(head, world, params, identity, state, jax.random.key(1), 5)
        frozen = jax.lax.stop_gradient(params)
        window = unroll(head, world, frozen, identity, after, jax.random.key(2), 5)[1]
        return jnp.sum(window.reward)

    assert np.all(np.asarray(jax.grad(second_reward)(params)) == 0.0)


class Bomb(Env):
    """A point whose gradient, or whose motion, breaks where its first coordinate exceeds 2."""

    backend = None
    observation_size = 2
    action_size = 1

    def __init__(self, breaks: str) -> None:
        self.breaks = breaks

    def reset(self, rng):
        x = jnp.stack([4.0 * jax.random.uniform(rng), jnp.float32(0.0)])
        return State(x, x, jnp.float32(0.0), jnp.float32(0.0))

    def step(self, state, action):
        x = state.pipeline_state
        moved = x[1] + 0.1 * action[0]
        bad = x[0] > 2.0
        if self.breaks == "forward":
            moved = jnp.where(bad, jnp.nan, moved)
        else:  # sqrt(0): value 0, derivative infinite
            moved = moved + jnp.sqrt(jnp.where(bad, 0.0 * moved, 1.0)) - jnp.where(bad, 0.0, 1.0)
        x = jnp.stack([x[0], moved])
        return state.replace(pipeline_state=x, obs=x, reward=moved, done=jnp.float32(0.0))


@pytest.mark.parametrize("breaks", ["forward", "backward"])
def test_a_broken_environment_costs_its_own_gradient_and_no_others(breaks):
    world = episodes(Bomb(breaks), episode_length=1000)
    head = linear_head(np.ones((1, 2)))
    params = head.init(jax.random.key(0))
    state = start(head, world, params, identity, jax.random.key(0), 16)
    bad = np.asarray(state.episode.env_state.obs[:, 0] > 2.0)
    assert 0 < bad.sum() < 16
    healthy = jax.tree.map(lambda x: x[~bad], state._replace(bank=None))._replace(bank=state.bank)

    def loss(params, probe, state):
        window = unroll(head, world, params, identity, state, jax.random.key(1), 1, probe)[1]
        return jnp.sum(window.reward), window.finite

    (gradient, counts), finite = jax.grad(loss, (0, 1), has_aux=True)(params, jnp.zeros(16), state)
    np.testing.assert_array_equal((np.asarray(counts) > 0) | ~np.asarray(finite[0]), bad)
    alone, _ = jax.grad(loss, has_aux=True)(params, jnp.zeros(int((~bad).sum())), healthy)
    np.testing.assert_allclose(gradient, alone, rtol=1e-6)


def test_guard_is_the_identity_and_counts():
    tree = {"a": jnp.arange(3.0), "n": jnp.int32(4)}
    same = guard(tree, jnp.float32(0.0))
    jax.tree.map(np.testing.assert_array_equal, same, tree)

    def through(a, probe, weight):
        return jnp.sum(weight * guard({"a": a, "n": jnp.int32(4)}, probe)["a"])

    for weight, masked in ((2.0, False), (jnp.inf, True), (jnp.nan, True)):
        gradient, count = jax.grad(through, (0, 1))(jnp.arange(3.0), jnp.float32(0.0), weight)
        np.testing.assert_array_equal(gradient, 0.0 if masked else 2.0)
        assert count == masked


def test_a_cut_window_has_the_gradient_of_its_pieces():
    """What AHAC's pieces stand for: windows of their own, that start where the last one stopped."""
    task, batch = analytic.lqr(), 4
    gain = jnp.asarray(0.5 * analytic.riccati(task, DISCOUNT).gain, jnp.float32)
    world, head = episodes(task, episode_length=10**6), linear_head(gain)
    state = start(head, world, gain, identity, jax.random.key(0), batch)
    key = jax.random.key(1)

    def cut(gain):
        keep = jnp.repeat(jnp.array([1.0, 1.0, 1.0, 0.0, 1.0, 1.0])[:, None], batch, 1)
        window = unroll(
            head,
            world,
            gain,
            identity,
            state,
            key,
            6,
            stabilise=lambda state, inputs: cut_and_measure(state, *inputs),
            step_inputs=(keep, jnp.zeros((6, batch))),
        )[1]
        return window.reward.sum()

    def apart(gain):
        middle, first = unroll(head, world, gain, identity, state, key, 3)
        second = unroll(head, world, gain, identity, middle, key, 3)[1]
        return first.reward.sum() + second.reward.sum()

    def whole(gain):
        return unroll(head, world, gain, identity, state, key, 6)[1].reward.sum()

    ours, expected = jax.jit(jax.grad(cut))(gain), jax.jit(jax.grad(apart))(gain)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(ours, jax.jit(jax.grad(whole))(gain), rtol=1e-2)
