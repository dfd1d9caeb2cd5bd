import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.models.networks import MLP, critic_network, elu, orthogonal


def test_two_critics_share_nothing():
    init, apply = critic_network(3, (8,), count=2)
    params = init(jax.random.key(0))
    for leaf in jax.tree.leaves(params):
        assert leaf.shape[0] == 2
    kernels = params["params"]["Dense_0"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])
    values = apply(params, jnp.ones((5, 3)))
    assert values.shape == (2, 5)
    gradient = jax.grad(lambda p: apply(p, jnp.ones(3))[0])(params)
    assert all(jnp.all(leaf[1] == 0.0) for leaf in jax.tree.leaves(gradient))
    assert any(jnp.any(leaf[0] != 0.0) for leaf in jax.tree.leaves(gradient))


def test_output_gain_scales_the_first_outputs():
    x = jax.random.normal(jax.random.key(0), (64, 4))
    spread = []
    for gain in (1.0, 0.01):
        network = MLP((32, 32), 3, output_gain=gain)
        spread.append(float(network.apply(network.init(jax.random.key(1), x), x).std()))
    np.testing.assert_allclose(spread[1] / spread[0], 0.01, rtol=1e-3)


@pytest.mark.parametrize("shape", [(64, 64), (100, 7), (7, 100), (1, 1)])
def test_orthogonal_kernels_are_orthogonal_and_random(shape):
    keys = jax.random.split(jax.random.key(0), 20)
    kernels = np.asarray(jax.vmap(lambda key: orthogonal(2.0)(key, shape))(keys))
    for kernel in kernels:
        gram = kernel @ kernel.T if shape[0] < shape[1] else kernel.T @ kernel
        np.testing.assert_allclose(gram, 4.0 * np.eye(min(shape)), atol=1e-4)
    assert np.abs(kernels.mean()) < 3 * 2.0 / np.sqrt(max(shape) * kernels.size) + 0.5 * (
        max(shape) == 1
    )
    assert np.unique(kernels.sum((1, 2)).round(4)).size > (1 if max(shape) == 1 else 10)


def test_elu_is_flaxs_and_so_is_its_slope():
    x = jnp.array([-50.0, -3.0, -1e-3, 0.0, 1e-3, 2.0])
    np.testing.assert_allclose(elu(x), nn.elu(x), atol=1e-7)
    slope = jax.vmap(jax.grad(elu))(x)
    np.testing.assert_allclose(slope, jax.vmap(jax.grad(nn.elu))(x), rtol=1e-6, atol=1e-9)
