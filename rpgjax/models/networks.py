"""Multilayer perceptrons for policies, velocity fields and critics."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpgjax.types import Array, Key, Params

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": nn.elu,
    "silu": nn.silu,
    "tanh": nn.tanh,
}


class MLP(nn.Module):
    """Linear, LayerNorm, activation, repeated; then one linear output layer.

    LayerNorm after every hidden layer is what SHAC and SAPO use. Kernels are orthogonal; the output
    layer's gain is `output_gain`, so a small one starts the network near zero.
    """

    hidden: Sequence[int]
    outputs: int
    activation: str = "elu"
    output_gain: float = 1.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(..., inputs) to (..., outputs)."""
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=nn.initializers.orthogonal(2.0**0.5))(x)
            x = ACTIVATIONS[self.activation](nn.LayerNorm()(x))
        return nn.Dense(self.outputs, kernel_init=nn.initializers.orthogonal(self.output_gain))(x)


def critic_network(
    observation_size: int, hidden: Sequence[int], activation: str = "elu", count: int = 2
) -> tuple[Callable[[Key], Params], Callable[[Params, Array], Array]]:
    """`count` independent state-value networks, as `init(key)` and `apply(params, observation)`.

    Each has a key and parameters of its own (two critics that share weights are one critic). `apply`
    takes a normalised observation (..., obs) and returns the values (count, ...).
    """
    network = MLP(tuple(hidden), 1, activation)

    def init(key: Key) -> Params:
        example = jnp.zeros(observation_size)
        return jax.vmap(lambda k: network.init(k, example))(jax.random.split(key, count))

    def apply(params: Params, observation: Array) -> Array:
        return jax.vmap(lambda p: network.apply(p, observation)[..., 0])(params)

    return init, apply
