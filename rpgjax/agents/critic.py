"""Critics fitted to fixed targets: minibatch regression, several passes over a window."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rpgjax.agents.agent import descend
from rpgjax.types import Array, Key, Params


class Samples(NamedTuple):
    """What critics learn from. Any leading axes, the same for all three."""

    observation: Array  # (..., obs), normalised
    target: Array  # (...)
    weight: Array  # (...), 0 leaves a sample out


def fit_critics(
    critic: Callable[[Params, Array], Array],
    optimizer: optax.GradientTransformation,
    params: Params,
    optimizer_state: optax.OptState,
    samples: Samples,
    key: Key,
    passes: int,
    minibatches: int,
) -> tuple[Params, optax.OptState, Array]:
    """Regresses every critic to the same targets by `passes` x `minibatches` optimizer steps.

    Args:
        critic: values (critics, ...) of observations (..., obs).
        optimizer: of all critics together.
        params: the critics'.
        optimizer_state: the optimizer's.
        samples: shuffled anew in each pass.
        key: for the shuffles.
        passes: over all samples.
        minibatches: in a pass; they divide the number of samples.

    Returns:
        Parameters, optimizer state, and the last pass's mean squared error of a critic.
    """
    batch_axes = samples.target.ndim
    samples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[batch_axes:]), samples)
    count = samples.target.shape[0]

    def loss(params: Params, batch: Samples) -> tuple[Array, Array]:
        values = critic(params, batch.observation)
        error = (values - batch.target[None]) ** 2 * batch.weight[None]
        # A sum over the critics: each one's gradient is what it would be alone.
        return jnp.sum(jnp.mean(error, axis=1)), jnp.mean(error)

    def step(carry: tuple[Params, optax.OptState], indices: Array):
        params, optimizer_state = carry
        batch = jax.tree.map(lambda x: x[indices], samples)
        gradient, error = jax.grad(loss, has_aux=True)(params, batch)
        params, optimizer_state, _ = descend(optimizer, gradient, params, optimizer_state)
        return (params, optimizer_state), error

    def one_pass(carry: tuple[Params, optax.OptState], key: Key):
        order = jax.random.permutation(key, count).reshape(minibatches, -1)
        return jax.lax.scan(step, carry, order)

    carry = (params, optimizer_state)
    carry, errors = jax.lax.scan(one_pass, carry, jax.random.split(key, passes))
    return *carry, errors[-1].mean()
