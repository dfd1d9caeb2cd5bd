"""The bound's terms, against hand numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.objectives.bound import Weights, k_step_value, score_function, step_terms

WEIGHTS = Weights(temperature=2.0, action_entropy=0.1, latent_entropy=0.3, information=0.5)


def test_a_steps_terms():
    got = step_terms(WEIGHTS, jnp.array([4.0]), jnp.array([-3.0]), jnp.array([-1.0]))
    assert float(got[0]) == pytest.approx(4.0 / 2.0 + 0.1 * 3.0 - 0.5)
    without = step_terms(WEIGHTS, jnp.array([4.0]), None, jnp.array([-1.0]))
    assert float(without[0]) == pytest.approx(1.5)


def test_the_score_function_is_the_gradient_of_the_expectation():
    """For a softmax over three latents, the exact gradient of E[G(z)] + alpha_z entropy is known."""
    logits, worth = jnp.array([0.2, -0.5, 1.0]), jnp.array([1.0, 3.0, -2.0])

    def exact(logits):
        chance = jax.nn.softmax(logits)
        return jnp.sum(chance * (worth - 0.3 * jnp.log(chance)))

    drawn = jax.random.categorical(jax.random.key(0), logits, shape=(400_000,))

    def sampled(logits):
        return score_function(
            jax.nn.log_softmax(logits)[drawn], worth[drawn], jnp.ones(drawn.shape, bool), 0.3
        )

    np.testing.assert_allclose(jax.grad(sampled)(logits), jax.grad(exact)(logits), atol=0.01)


def test_only_first_steps_choose_a_latent():
    log_prior = jnp.array([-1.0, -2.0, -3.0, -4.0])
    first = jnp.array([True, False, True, False])
    returns = jnp.array([1.0, 9.0, 3.0, 9.0])
    gradient = jax.grad(lambda x, alpha: score_function(x, returns, first, alpha))
    np.testing.assert_allclose(gradient(log_prior, 0.0), [-0.5, 0.0, 0.5, 0.0])
    weighed = gradient(log_prior, 0.3)  # A = [1, 3] - 0.3 [-1, -3], less its mean
    np.testing.assert_allclose(weighed, [-0.65, 0.0, 0.65, 0.0], rtol=1e-6)
    np.testing.assert_allclose(gradient(log_prior - 1.0, 0.3), weighed, rtol=1e-6)
    nowhere = score_function(log_prior, jnp.ones(4), jnp.zeros(4, bool), 0.1)
    assert float(nowhere) == 0.0


def test_the_k_step_value_equals_a_slow_loop():
    rng = np.random.default_rng(0)
    horizon, batch, discount = 3, 5, 0.9
    reward, bonus, value = rng.normal(size=(3, horizon, batch))
    expected, total = np.zeros(batch), 0.0
    for i in range(horizon):
        v = np.zeros(batch)
        for j in range(i + 1):
            v += discount**j * bonus[j]
        for j in range(i):
            v += discount**j * reward[j]
        v += discount**i * (reward[i] + discount * value[i])  # gamma^i Q_i
        expected += 0.97**i * v
        total += 0.97**i
    got = k_step_value(*map(jnp.asarray, (reward, bonus, value)), discount)
    np.testing.assert_allclose(got, expected / total, rtol=1e-5)


def test_the_k_step_value_by_hand():
    # Depths: 1 + .5 * 10 = 6 and 1 + .5 * 2 + .25 * 20 = 7, weighed 1 and 1/2.
    got = k_step_value(jnp.array([1.0, 2.0]), jnp.zeros(2), jnp.array([10.0, 20.0]), 0.5, 0.5)
    assert float(got) == pytest.approx((6.0 + 0.5 * 7.0) / 1.5)


def test_what_may_not_survive_is_worth_less():
    """p = 0: the second step counts no more; p = 1 changes nothing; by hand in between."""
    arguments = jnp.array([1.0, 2.0]), jnp.zeros(2), jnp.array([10.0, 20.0]), 0.5, 0.5
    # 1 + .5 10 = 6 and 1, weighed 1 and 1/2.
    assert float(k_step_value(*arguments, jnp.zeros(2))) == pytest.approx((6.0 + 0.5) / 1.5)
    always = k_step_value(*arguments, jnp.ones(2))
    assert float(always) == pytest.approx(float(k_step_value(*arguments)))
    # 1 + .5 10 = 6 and 1 + .4 2 + .4 .5 20 = 5.8, weighed 1 and 1/2.
    got = k_step_value(*arguments, jnp.array([0.8, 0.5]))
    assert float(got) == pytest.approx((6.0 + 0.5 * 5.8) / 1.5)


def test_an_episode_that_may_end_at_every_step_is_worth_what_it_pays_on_average():
    """Paid 1 for each step, it goes on with chance q: from a step on 1 / (1 - gamma q), at every depth."""
    q, discount = 0.8, 0.9
    worth = 1.0 / (1.0 - discount * q)
    after_a_step = q * worth  # V, learned from targets that are zero where the episode ended
    ones = jnp.ones(3)
    got = k_step_value(ones, 0.0 * ones, after_a_step * ones, discount, survival=q * ones)
    assert float(got) == pytest.approx(worth, rel=1e-6)
