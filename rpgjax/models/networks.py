"""Multilayer perceptrons for policies, velocity fields and critics."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpgjax.types import Array, Key, Params


def elu(x: Array) -> Array:
    """x above zero, exp(x) - 1 below, of any shape.

    By `exp`: the `expm1` of `flax.linen.elu` takes a CPU nearly as long as the matrix product before it,
    for digits near zero that are lost in the next sum.
    """
    return jnp.where(x > 0, x, jnp.exp(jnp.where(x > 0, 0.0, x)) - 1.0)


Activation = Literal["elu", "silu", "tanh"]
ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "elu": elu,
    "silu": nn.silu,
    "tanh": nn.tanh,
}


def orthogonal(gain: float) -> Callable[..., Array]:
    """Uniformly random matrices with orthonormal rows or columns, times `gain`.

    The polar factor of a Gaussian matrix, by Newton-Schulz iteration: products of matrices only. QR,
    the usual way, is a LAPACK call, and batched over seeds those can block XLA's CPU thread pool.
    """

    def init(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        rows, columns = shape
        x = jax.random.normal(key, (max(shape), min(shape)), dtype)
        x = x / jnp.linalg.norm(x)  # singular values in (0, 1]: each step takes them towards 1

        def step(_: Array, x: Array) -> Array:
            return 1.5 * x - 0.5 * x @ (x.T @ x)

        x = gain * jax.lax.fori_loop(0, 60, step, x)
        return x if rows >= columns else x.T

    return init


def side_by_side(init: Callable[..., Array], count: int) -> Callable[..., Array]:
    """A kernel (inputs, count * width) of `count` blocks, each drawn by `init` alone."""

    def drawn(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        rows, columns = shape
        keys = jax.random.split(key, count)
        return jnp.concatenate([init(k, (rows, columns // count), dtype) for k in keys], axis=1)

    return drawn


class MLP(nn.Module):
    """Linear, LayerNorm, activation, repeated; then one linear output layer.

    LayerNorm after every hidden layer is what SHAC and SAPO use; RPG has none. Kernels are orthogonal;
    the output layer's gain is `output_gain`, so a small one starts the network near zero.
    """

    hidden: Sequence[int]
    outputs: int
    activation: str = "elu"
    output_gain: float = 1.0
    layer_norm: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(..., inputs) to (..., outputs)."""
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=orthogonal(2.0**0.5))(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = ACTIVATIONS[self.activation](x)
        return nn.Dense(self.outputs, kernel_init=orthogonal(self.output_gain))(x)


def critic_network(
    observation_size: int,
    hidden: Sequence[int],
    activation: str = "elu",
    count: int = 2,
    *,
    layer_norm: bool = True,
) -> tuple[Callable[[Key], Params], Callable[[Params, Array], Array]]:
    """`count` independent state-value networks, as `init(key)` and `apply(params, observation)`.

    Each has a key and parameters of its own (two critics that share weights are one critic). `apply`
    takes a normalised observation (..., obs) and returns the values (count, ...).
    """
    network = MLP(tuple(hidden), 1, activation, layer_norm=layer_norm)

    def init(key: Key) -> Params:
        example = jnp.zeros(observation_size)
        return jax.vmap(lambda k: network.init(k, example))(jax.random.split(key, count))

    def apply(params: Params, observation: Array) -> Array:
        return jax.vmap(lambda p: network.apply(p, observation)[..., 0])(params)

    return init, apply
