import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.policies import gaussian


@pytest.mark.parametrize("state_dependent_std", [False, True])
def test_log_prob_is_the_density_of_the_squashed_action(state_dependent_std):
    head = gaussian(2, 1, (8,), state_dependent_std=state_dependent_std, log_std_init=-0.5)
    params, observation = head.init(jax.random.key(0)), jnp.array([0.3, -0.7])
    keys = jax.random.split(jax.random.key(1), 200_000)
    drawn = jax.vmap(lambda k: head.sample(params, (), observation, k)[1])(keys)
    actions = np.asarray(drawn.action[:, 0])
    histogram, edges = np.histogram(actions, bins=20, range=(-0.9, 0.9))
    density = histogram / len(actions) / np.diff(edges)
    for count, low, high in zip(density, edges, edges[1:], strict=False):
        inside = (actions >= low) & (actions < high)
        if inside.sum() > 2000:
            assert np.exp(np.asarray(drawn.log_prob)[inside]).mean() == pytest.approx(
                count, rel=0.1
            )


def test_log_prob_and_its_gradient_stay_finite_at_saturation():
    head = gaussian(1, 1, (), log_std_init=2.0)
    params = head.init(jax.random.key(0))
    params["network"]["params"]["Dense_0"]["bias"] = jnp.array([40.0])

    def log_prob(params):
        return head.sample(params, (), jnp.zeros(1), jax.random.key(1))[1].log_prob

    value, gradient = jax.value_and_grad(log_prob)(params)
    assert jnp.isfinite(value)
    assert all(jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradient))


def test_mode_is_the_mean_and_std_is_what_was_asked():
    head = gaussian(3, 2, (16,), log_std_init=-3.0)
    params, observation = head.init(jax.random.key(0)), jnp.ones(3)
    _, mode = head.mode(params, (), observation)
    keys = jax.random.split(jax.random.key(1), 20_000)
    x = jax.vmap(lambda k: head.sample(params, (), observation, k)[1].pre_squash)(keys)
    np.testing.assert_allclose(np.tanh(x.mean(0)), mode, atol=2e-3)
    np.testing.assert_allclose(x.std(0), np.exp(-3.0), rtol=0.03)


def test_only_the_state_dependent_std_depends_on_the_state():
    for state_dependent_std in (False, True):
        head = gaussian(3, 2, (16,), state_dependent_std=state_dependent_std)
        params = head.init(jax.random.key(0))
        # Gain 0.01 at the output hides the dependence at the start: scale it up.
        params["network"] = jax.tree.map(lambda x: x * 30.0, params["network"])

        def spread(scale, head=head, params=params):
            keys = jax.random.split(jax.random.key(1), 500)
            draw = lambda k: head.sample(params, (), scale * jnp.arange(3.0), k)[1]  # noqa: E731
            return jax.vmap(draw)(keys).pre_squash.std(0)

        same = np.allclose(spread(1.0), spread(-2.0), rtol=1e-3)
        assert same != state_dependent_std
