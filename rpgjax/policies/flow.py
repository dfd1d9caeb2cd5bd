"""The flow head of RFO: an action is the end point of an ODE that starts at Gaussian noise.

Reparameterization Flow Policy Optimization (Zhong et al., 2026): the map from noise to action is
differentiable, so the policy gradient goes through it, jointly with the dynamics, with no
log-likelihood. We discretise, then differentiate.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rpgjax.models.networks import MLP
from rpgjax.policies.head import PolicyHead, no_carry, squash
from rpgjax.types import Array, Key, Params

Velocity = Callable[[Array, Array], Array]  # v(x, u): (action,), () -> (action,)
Step = Callable[[Velocity, Array, Array, Array], Array]  # x at u + du


class VelocityField(NamedTuple):
    """v(x, u | s) as pure functions of one example."""

    init: Callable[[Key], Params]
    apply: Callable[[Params, Array, Array, Array], Array]  # params, observation, x, flow time


def velocity_field(
    observation_size: int,
    action_size: int,
    hidden: Sequence[int] = (256, 128),
    activation: str = "silu",
) -> VelocityField:
    """A network on [s, x, u] whose output layer starts with gain 0.01, so the flow starts as identity."""
    network = MLP(tuple(hidden), action_size, activation, output_gain=0.01)

    def init(key: Key) -> Params:
        return network.init(key, jnp.zeros(observation_size + action_size + 1))

    def apply(params: Params, observation: Array, x: Array, flow_time: Array) -> Array:
        return network.apply(params, jnp.concatenate([observation, x, flow_time[None]]))

    return VelocityField(init, apply)


def euler(v: Velocity, x: Array, u: Array, du: Array) -> Array:
    """Forward Euler: the paper's integrator."""
    return x + du * v(x, u)


def midpoint(v: Velocity, x: Array, u: Array, du: Array) -> Array:
    """Explicit midpoint rule, two evaluations a step."""
    return x + du * v(x + 0.5 * du * v(x, u), u + 0.5 * du)


def heun(v: Velocity, x: Array, u: Array, du: Array) -> Array:
    """Heun's trapezoidal rule, two evaluations a step."""
    slope = v(x, u)
    return x + 0.5 * du * (slope + v(x + du * slope, u + du))


SOLVERS: dict[str, Step] = {"euler": euler, "midpoint": midpoint, "heun": heun}


def integrate(v: Velocity, x: Array, steps: int, solver: str = "euler") -> Array:
    """x(1) of dx/du = v(x, u) from x(0) = x, in `steps` equal steps.

    Raises:
        ValueError: an unknown solver, or fewer than one step.
    """
    if solver not in SOLVERS:
        raise ValueError(f"unknown ODE solver {solver!r}; choose from {', '.join(SOLVERS)}")
    if steps < 1:
        raise ValueError(f"flow_steps must be at least 1, not {steps}")
    du = jnp.asarray(1.0 / steps, x.dtype)
    # Unrolled: a handful of small steps compiles and runs faster than a loop around them.
    for k in range(steps):
        x = SOLVERS[solver](v, x, k * du, du)
    return x


def flow(
    field: VelocityField,
    action_size: int,
    steps: int = 4,
    solver: str = "euler",
    *,
    rematerialise: bool = False,
) -> PolicyHead:
    """action = tanh(x(1)), x(0) ~ N(0, I), dx/du = v(x, u | s).

    Args:
        field: the velocity field; the head's parameters are the field's.
        action_size: width of x and of the action.
        steps: K, the number of integration steps.
        solver: "euler", "midpoint" or "heun".
        rematerialise: recompute the integration in the backward pass in place of storing it.

    Returns:
        A head without a density: `log_prob` is None. Its mode starts the ODE at zero noise.
    """

    def transport(params: Params, observation: Array, noise: Array) -> Array:
        return integrate(lambda x, u: field.apply(params, observation, x, u), noise, steps, solver)

    if rematerialise:
        transport = jax.checkpoint(transport)

    def sample(params: Params, carry: tuple, observation: Array, key: Key):
        noise = jax.random.normal(key, (action_size,), observation.dtype)
        return carry, squash(transport(params, observation, noise))

    def mode(params: Params, carry: tuple, observation: Array) -> tuple[tuple, Array]:
        noise = jnp.zeros(action_size, observation.dtype)
        return carry, jnp.tanh(transport(params, observation, noise))

    return PolicyHead(field.init, no_carry, sample, mode)
