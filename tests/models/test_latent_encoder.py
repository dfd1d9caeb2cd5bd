"""The encoders' densities, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.models import latent_encoder

OBSERVATION, ACTION = jnp.array([0.4, -1.0]), jnp.array([0.7])


def test_the_gaussian_encoder_is_minus_pi_times_the_squared_distance():
    encoder = latent_encoder.gaussian_encoder(3, 2, 1, (8,))
    params = encoder.init(jax.random.key(0))
    z = jnp.array([0.1, 2.0, -0.5])

    def log_prob(z):
        return encoder.log_prob(params, z, OBSERVATION, ACTION)

    # d/dz of -pi |z - mean|^2 is -2 pi (z - mean).
    mean = z + jax.grad(log_prob)(z) / (2 * jnp.pi)
    assert float(log_prob(mean)) == pytest.approx(0.0, abs=1e-3)
    distance = float(jnp.sum((z - mean) ** 2))
    assert float(log_prob(z)) == pytest.approx(-np.pi * distance, rel=1e-3)


def test_the_categorical_encoder_is_a_bounded_distribution():
    encoder = latent_encoder.categorical_encoder(4, 2, 1, (8,))
    params = jax.tree.map(lambda x: 30.0 * x, encoder.init(jax.random.key(1)))
    logs = [encoder.log_prob(params, z, OBSERVATION, ACTION) for z in jnp.eye(4)]
    chances = np.exp(np.array(logs))
    assert chances.sum() == pytest.approx(1.0, abs=1e-5)
    assert chances.min() == pytest.approx(0.2 / 4, rel=1e-2)  # however sure the network is
    assert chances.max() == pytest.approx(0.8 + 0.2 / 4, rel=1e-2)


@pytest.mark.parametrize("make", ["gaussian_encoder", "categorical_encoder"])
def test_it_sees_the_state_and_the_action(make):
    encoder = getattr(latent_encoder, make)(4, 2, 1, (8,))
    params = encoder.init(jax.random.key(0))
    slopes = jax.grad(encoder.log_prob, argnums=(2, 3))(params, jnp.eye(4)[1], OBSERVATION, ACTION)
    assert all(float(jnp.abs(slope).max()) > 0 for slope in slopes)


def test_unused_entries_of_z_do_not_count():
    """The density over the first entries is that of a smaller z; the rest has no gradient."""
    encoder = latent_encoder.gaussian_encoder(3, 2, 1, (8,), used=2.0)
    smaller = latent_encoder.gaussian_encoder(2, 2, 1, (8,))
    params = encoder.init(jax.random.key(0))
    cut = jax.tree.map(lambda x: x, params)
    last = cut["params"]["Dense_1"]
    cut["params"]["Dense_1"] = {"kernel": last["kernel"][:, :2], "bias": last["bias"][:2]}
    z = jnp.array([0.1, 2.0, 0.0])
    expected = smaller.log_prob(cut, z[:2], OBSERVATION, ACTION)
    assert float(encoder.log_prob(params, z, OBSERVATION, ACTION)) == pytest.approx(
        float(expected), rel=1e-5
    )
    slope = jax.grad(encoder.log_prob)(params, z, OBSERVATION, ACTION)["params"]["Dense_1"]
    assert np.all(slope["kernel"][:, 2] == 0) and np.all(slope["kernel"][:, :2] != 0)
    nothing = latent_encoder.gaussian_encoder(3, 2, 1, (8,), used=0.0)
    assert float(nothing.log_prob(params, z, OBSERVATION, ACTION)) == 0.0
