import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpgjax.objectives.returns import lambda_return, segment_starts, window_objective


def slow_lambda_return(reward, next_value, terminated, truncated, discount, lambda_):
    """The definition as a sum over n-step returns, weights (1 - lambda) lambda^(n-1), by hand."""
    horizon = len(reward)
    result = np.zeros(horizon)
    for t in range(horizon):
        total, weight, reward_sum, discounted = 0.0, 1.0, 0.0, 1.0
        for k in range(t, horizon):
            reward_sum += discounted * reward[k]
            discounted *= discount
            last = terminated[k] or truncated[k] or k == horizon - 1
            n_step = reward_sum + (0.0 if terminated[k] else discounted * next_value[k])
            total += (weight if last else weight * (1 - lambda_)) * n_step
            weight *= lambda_
            if last:
                break
        result[t] = total
    return result


@st.composite
def windows(draw):
    horizon = draw(st.integers(1, 9))
    numbers = st.floats(-5, 5, width=32)
    reward = np.array(draw(st.lists(numbers, min_size=horizon, max_size=horizon)))
    value = np.array(draw(st.lists(numbers, min_size=horizon, max_size=horizon)))
    end = st.sampled_from(["goes on", "terminated", "truncated"])
    ends = np.array(draw(st.lists(end, min_size=horizon, max_size=horizon)))
    return reward, value, ends == "terminated", ends == "truncated"


@settings(max_examples=60, deadline=None)
@given(windows(), st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.sampled_from([0.9, 1.0]))
def test_lambda_return_equals_a_slow_loop(window, lambda_, discount):
    fast = lambda_return(*(jnp.asarray(x) for x in window), discount, lambda_)
    slow = slow_lambda_return(*window, discount, lambda_)
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-4)


def test_termination_and_truncation_by_hand():
    reward = jnp.array([1.0, 2.0, 4.0, 8.0])
    value = jnp.array([10.0, 20.0, 30.0, 40.0])
    terminated = jnp.array([False, True, False, False])
    truncated = jnp.array([False, False, True, False])
    got = lambda_return(reward, value, terminated, truncated, 0.5, 1.0)
    # 1 + .5 * 2; 2 alone (terminated); 4 + .5 * 30 (truncated); 8 + .5 * 40 (window's end)
    np.testing.assert_allclose(got, [2.0, 2.0, 19.0, 28.0])
    starts = segment_starts(terminated, truncated)
    np.testing.assert_array_equal(starts, [1.0, 0.0, 1.0, 1.0])


def test_lambda_one_is_shacs_window_objective():
    rng = np.random.default_rng(0)
    horizon, batch, discount = 12, 6, 0.97
    reward, value = rng.normal(size=(2, horizon, batch))
    terminated = rng.random((horizon, batch)) < 0.15
    truncated = (rng.random((horizon, batch)) < 0.15) & ~terminated

    expected = np.zeros(batch)
    for b in range(batch):
        factor = 1.0  # SHAC eq. 5: the discount restarts with each episode inside the window
        for t in range(horizon):
            expected[b] += factor * reward[t, b]
            factor *= discount
            if truncated[t, b] or (t == horizon - 1 and not terminated[t, b]):
                expected[b] += factor * value[t, b]
            if terminated[t, b] or truncated[t, b]:
                factor = 1.0
    args = [jnp.asarray(x) for x in (reward, value, terminated, truncated)]
    got = window_objective(lambda_return(*args, discount, 1.0), *args[2:])
    np.testing.assert_allclose(got, expected / horizon, rtol=1e-4, atol=1e-5)


def test_lambda_below_one_lets_every_value_in():
    horizon = 5
    reward, value = jnp.ones((2, horizon))
    no = jnp.zeros(horizon, bool)

    def objective(value, lambda_):
        return window_objective(lambda_return(reward, value, no, no, 0.9, lambda_), no, no)

    at_one = jax.grad(objective)(value, 1.0)
    mixed = jax.grad(objective)(value, 0.8)
    np.testing.assert_allclose(at_one[:-1], 0.0)
    assert at_one[-1] > 0
    assert np.all(np.asarray(mixed) > 0)


@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_no_gradient_crosses_an_episodes_end(ending):
    reward = jnp.ones(4)
    value = jnp.ones(4)
    ends = jnp.array([False, True, False, False])
    no = jnp.zeros(4, bool)
    terminated, truncated = (ends, no) if ending == "terminated" else (no, ends)
    sensitivity = jax.jacobian(lambda r: lambda_return(r, value, terminated, truncated, 0.9, 0.9))(
        reward
    )
    assert np.all(np.asarray(sensitivity)[:2, 2:] == 0.0)
    assert sensitivity[0, 1] > 0 and sensitivity[2, 3] > 0


def test_survival_changes_no_return_and_slopes_by_what_would_be_lost():
    """By hand: d G_t / d survival_k is the discounted way to k, times what follows k."""
    reward, value = jnp.array([1.0, 2.0, 3.0]), jnp.array([10.0, 20.0, 30.0])
    terminated, no = jnp.array([False, True, False]), jnp.zeros(3, bool)
    survival, discount, lambda_ = jnp.array([0.9, 0.3, 0.8]), 0.9, 0.5
    args = (reward, value, terminated, no, discount, lambda_)
    plain, soft = lambda_return(*args), lambda_return(*args, survival)
    np.testing.assert_allclose(soft, plain, rtol=1e-6)
    slopes = jax.jacobian(lambda s: lambda_return(*args, s))(survival)
    of_second = (
        discount * 20.0
    )  # the task ended there: its value had it gone on, no other episode's
    of_first = discount * (0.5 * 10.0 + 0.5 * plain[1])
    np.testing.assert_allclose(slopes[1], [0.0, of_second, 0.0], rtol=1e-5)
    np.testing.assert_allclose(slopes[0], [of_first, 0.45 * of_second, 0.0], rtol=1e-5)
    np.testing.assert_allclose(slopes[2], [0.0, 0.0, discount * 30.0], rtol=1e-5)
