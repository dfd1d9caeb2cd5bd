"""The linear-quadratic regulator: the task on which every gradient is known."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.envs.analytic.task import AnalyticTask, Outcome
from rpgjax.types import Array, Key


class LQR(AnalyticTask):
    """Linear dynamics, quadratic cost, deterministic after a Gaussian start.

    Dynamics: x' = A x + B u with u = `scale` a. The action a is meant for [-1, 1] and not clipped,
    so that a linear policy stays exactly linear. Observation: x. Start: x ~ N(0, `spread`^2 I).
    Reward of the state and action before the step: -(x' Q x + u' R u). Never terminates.
    Optimum: `riccati`; the expected return of any linear policy: `linear_cost`.

    Args:
        dynamics: A, (state, state).
        control: B, (state, action).
        state_cost: Q, (state, state), symmetric positive semidefinite.
        control_cost: R, (action, action), symmetric positive definite.
        scale: u for an action of 1.
        spread: standard deviation of the first state.

    Raises:
        ValueError: if the shapes do not fit.
    """

    def __init__(
        self,
        dynamics: np.ndarray,
        control: np.ndarray,
        state_cost: np.ndarray,
        control_cost: np.ndarray,
        scale: float = 2.0,
        spread: float = 1.0,
    ) -> None:
        size, controls = np.shape(control)
        shapes = [np.shape(x) for x in (dynamics, state_cost, control_cost)]
        if shapes != [(size, size), (size, size), (controls, controls)]:
            raise ValueError(f"A, Q and R do not fit B of shape {(size, controls)}: {shapes}")
        self.dynamics = np.asarray(dynamics, np.float64)
        self.control = np.asarray(control, np.float64)
        self.state_cost = np.asarray(state_cost, np.float64)
        self.control_cost = np.asarray(control_cost, np.float64)
        self.scale = scale
        self.spread = spread

    @property
    def observation_size(self) -> int:
        """The size of x."""
        return self.control.shape[0]

    @property
    def action_size(self) -> int:
        """The size of u."""
        return self.control.shape[1]

    def initial(self, key: Key) -> Array:
        """Gaussian."""
        return self.spread * jax.random.normal(key, (self.observation_size,))

    def transition(self, state: Array, action: Array) -> Outcome:
        """x' = A x + B u."""
        u = self.scale * action
        cost = state @ jnp.asarray(self.state_cost) @ state
        cost += u @ jnp.asarray(self.control_cost) @ u
        reached = jnp.asarray(self.dynamics) @ state + jnp.asarray(self.control) @ u
        return Outcome(reached, -cost, jnp.zeros((), bool))


def lqr() -> LQR:
    """A unit mass in a plane with a swirling force field that makes it unstable.

    x = (position in m, velocity in m/s), (4,); u = force in N, (2,). Acceleration = 0.5 J position
    + u, J the quarter turn; Euler steps of 0.1 s. Q = diag(1, 1, 0.1, 0.1), R = 0.1 I.
    """
    dt = 0.1
    swirl = 0.5 * np.array([[0.0, -1.0], [1.0, 0.0]])
    dynamics = np.eye(4) + dt * np.block([[np.zeros((2, 2)), np.eye(2)], [swirl, np.zeros((2, 2))]])
    control = dt * np.concatenate([np.zeros((2, 2)), np.eye(2)])
    return LQR(dynamics, control, np.diag([1.0, 1.0, 0.1, 0.1]), 0.1 * np.eye(2))


class Riccati(NamedTuple):
    """The optimal value and policy of an `LQR` in float64.

    The best return from x is -x' cost x, and the best action -gain x (an action, not u).
    """

    cost: np.ndarray  # P, (state, state), or (horizon + 1, state, state), the last one 0
    gain: np.ndarray  # K, (action, state), or (horizon, action, state)


def riccati(task: LQR, discount: float = 1.0, horizon: int | None = None) -> Riccati:
    """Solves the discounted Riccati recursion.

    P = Q + g A'P(A - B K) with K = g (R + g B'PB)^-1 B'PA.

    Args:
        task: the regulator.
        discount: g, in (0, 1].
        horizon: steps to go with nothing after them, or None for the infinite horizon.

    Raises:
        RuntimeError: if the infinite horizon does not converge.
    """
    a, b, q, r = _in_actions(task)

    def backup(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = discount * np.linalg.solve(r + discount * b.T @ p @ b, b.T @ p @ a)
        p = q + discount * a.T @ p @ (a - b @ k)
        return (p + p.T) / 2, k

    if horizon is None:
        p = _fixed_point(lambda p: backup(p)[0], q)
        return Riccati(p, backup(p)[1])
    costs, gains = [np.zeros_like(q)], []
    for _ in range(horizon):
        p, k = backup(costs[-1])
        costs.append(p)
        gains.append(k)
    return Riccati(np.stack(costs[::-1]), np.stack(gains[::-1]))


def linear_cost(
    task: LQR, gain: np.ndarray, discount: float = 1.0, horizon: int | None = None
) -> np.ndarray:
    """The cost matrix P, (state, state), of the policy: action = -gain x.

    Its return from x is -x' P x, and -`spread`^2 trace(P) on average over first states.

    Args:
        task: the regulator.
        gain: (action, state).
        discount: in (0, 1].
        horizon: steps, or None for the infinite horizon.

    Raises:
        RuntimeError: if the infinite horizon does not converge.
    """
    a, b, q, r = _in_actions(task)
    closed = a - b @ gain
    running = q + gain.T @ r @ gain

    def backup(p: np.ndarray) -> np.ndarray:
        return running + discount * closed.T @ p @ closed

    if horizon is None:
        return _fixed_point(backup, running)
    p = np.zeros_like(q)
    for _ in range(horizon):
        p = backup(p)
    return p


def _in_actions(task: LQR) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A, B, Q and R with the action for a control."""
    control, cost = task.scale * task.control, task.scale**2 * task.control_cost
    return task.dynamics, control, task.state_cost, cost


def _fixed_point(backup: Callable[[np.ndarray], np.ndarray], p: np.ndarray) -> np.ndarray:
    for _ in range(100_000):
        with np.errstate(over="ignore", invalid="ignore"):
            following = backup(p)
        if not np.all(np.isfinite(following)):
            break
        if np.allclose(following, p, rtol=1e-13, atol=1e-13):
            return following
        p = following
    raise RuntimeError("the infinite-horizon cost does not converge: is the policy stabilising?")
