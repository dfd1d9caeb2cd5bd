"""Latents of episodes: drawn once, held, told to the head, and recorded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.envs import analytic
from rpgjax.envs.episodes import episodes
from rpgjax.policies import gaussian
from rpgjax.policies.latent import Prior, by_value, categorical, latent, standard_normal
from rpgjax.rollout import start, unroll

PRIORS = {"normal": standard_normal(3), "categorical": categorical(3, 2, (8,), temperature=1.0)}


def identity(observation):
    return observation


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_latents_change_at_resets_only_and_are_recorded(prior):
    world = episodes(analytic.double_integrator(), episode_length=3)
    head = latent(gaussian(2 + 3, 1, (8,)), prior)
    params = head.init(jax.random.key(0))
    state = start(head, world, params, identity, jax.random.key(1), 16)
    state, window = unroll(head, world, params, identity, state, jax.random.key(2), 8)
    z, first = np.asarray(window.latent), np.asarray(window.is_first)
    same = np.all(z[1:] == z[:-1], axis=-1)
    assert np.all(same[~first[1:]]), "held inside an episode"
    ended = np.asarray(window.terminated | window.truncated)
    np.testing.assert_array_equal(first[1:], ended[:-1])
    if prior is PRIORS["normal"]:
        assert not np.any(same[first[1:]]), "drawn anew by every reset"
    else:
        assert 0.1 < np.mean(same[first[1:]]) < 0.6  # one in three by chance
    np.testing.assert_array_equal(z[-1][~ended[-1]], np.asarray(state.carry.z)[~ended[-1]])


def test_the_head_is_told_the_latent():
    head = latent(gaussian(2 + 3, 1, (8,)), PRIORS["normal"])
    params = jax.tree.map(lambda x: x + 0.3, head.init(jax.random.key(0)))
    observation = jnp.array([0.2, -0.4])
    carry = head.reset(params, observation, jax.random.key(1))
    _, action = head.mode(params, carry, observation)
    _, other = head.mode(params, carry._replace(z=-carry.z), observation)
    assert not np.allclose(action, other)
    seen = jnp.concatenate([observation, carry.z])
    inner = gaussian(2 + 3, 1, (8,))
    np.testing.assert_allclose(action, inner.mode(params["head"], (), seen)[1])


def test_a_prior_of_categories_draws_as_often_as_it_says():
    prior = PRIORS["categorical"]
    params = jax.tree.map(
        lambda x: x + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape) / x.size,
        prior.init(jax.random.key(0)),
    )
    observation = jnp.array([0.5, 1.0])
    keys = jax.random.split(jax.random.key(1), 20_000)
    drawn = jax.vmap(lambda key: prior.sample(params, observation, key))(keys)
    chances = [jnp.exp(prior.log_prob(params, observation, z)) for z in jnp.eye(3)]
    assert sum(chances) == pytest.approx(1.0, abs=1e-5)
    assert max(chances) > 1.2 * min(chances)
    np.testing.assert_allclose(drawn.mean(0), jnp.stack(chances), atol=0.015)


def test_without_a_temperature_the_best_category_is_drawn():
    prior = categorical(3, 2, (8,), temperature=0.0)
    params = prior.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 300)

    def drawn(params):
        return jax.vmap(lambda key: prior.sample(params, jnp.ones(2), key))(keys).mean(axis=0)

    assert np.all(drawn(params) > 0.2), "none is better yet"
    params = jax.tree.map(lambda x: x + 0.1 * jnp.arange(x.size).reshape(x.shape), params)
    worth = [prior.worth(params, jnp.ones(2), z) for z in jnp.eye(3)]
    assert np.argmax(worth) == 2 and drawn(params)[2] == 1.0


def test_the_normal_prior_has_its_density():
    z = jnp.array([0.3, -1.0, 2.0])
    expected = jax.scipy.stats.norm.logpdf(z).sum()
    assert PRIORS["normal"].log_prob((), jnp.zeros(1), z) == pytest.approx(
        float(expected), rel=1e-6
    )


def test_no_gradient_reaches_the_prior_through_the_latent():
    """Not even where z is a smooth function of the prior's parameters."""
    prior = Prior(
        init=lambda key: jnp.ones(3),
        sample=lambda params, observation, key: params + jax.random.normal(key, (3,)),
        log_prob=lambda params, observation, z: jnp.zeros(()),
    )
    head = latent(gaussian(2 + 3, 1, (8,)), prior)
    observation = jnp.ones(2)

    def action(params):
        carry = head.reset(params, observation, jax.random.key(3))
        return head.sample(params, carry, observation, jax.random.key(4))[1].action.sum()

    gradient = jax.grad(action)(head.init(jax.random.key(0)))
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(gradient["prior"]))
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient["head"]))


def test_a_normal_latent_draws_the_entries_that_are_used_and_counts_them_alone():
    prior = standard_normal(3, used=jnp.float32(2.0))
    z = prior.sample((), jnp.zeros(2), jax.random.key(0))
    assert np.all(z[:2] != 0) and z[2] == 0
    expected = standard_normal(2).log_prob((), jnp.zeros(2), z[:2])
    assert float(prior.log_prob((), jnp.zeros(2), z)) == pytest.approx(float(expected), rel=1e-6)


def test_a_latent_by_value_is_drawn_by_what_it_is_worth():
    worth = jnp.array([1.0, 3.0, 2.0])
    prior = by_value(3, lambda key: (), lambda params, s, z: jnp.stack([z @ worth] * 2))
    params = prior.init(jax.random.key(0)) | {"sharpness": jnp.float32(0.5)}
    expected = jax.nn.log_softmax(worth / 2.0)
    found = [prior.log_prob(params, jnp.zeros(2), z) for z in jnp.eye(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    keys = jax.random.split(jax.random.key(1), 4000)
    drawn = jax.vmap(lambda key: prior.sample(params, jnp.zeros(2), key))(keys)
    np.testing.assert_allclose(drawn.mean(0), jnp.exp(expected), atol=0.03)
    slope = jax.grad(lambda o: prior.log_prob(params, o, jnp.eye(3)[0]))(jnp.zeros(2))
    assert np.all(slope == 0)
