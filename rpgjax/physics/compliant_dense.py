"""Compliant contact for any Brax system: a matrix of all degrees of freedom, factored in every step.

What `rpgjax.physics.compliant_step` does faster, for the systems that it knows, and what it is tested
against.
"""

from typing import Any

import jax
import jax.numpy as jnp
from brax import actuator, contact, kinematics, math
from brax.base import System
from brax.generalized import dynamics, mass
from brax.generalized.base import State

from rpgjax.physics.compliance import Compliance, Constants, Stops, press
from rpgjax.types import Array


@jax.custom_vjp
def solve(matrix: Array, vector: Array) -> Array:
    """Of a symmetric positive definite matrix (n, n) and a vector (n,): one factor for both passes."""
    return _solve(matrix, vector)[0]


def _solve(matrix: Array, vector: Array) -> tuple[Array, tuple[Array, Array]]:
    factor = jnp.linalg.cholesky(matrix)
    found = jax.scipy.linalg.cho_solve((factor, True), vector)
    return found, (factor, found)


def _solve_backward(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    factor, found = kept
    of_vector = jax.scipy.linalg.cho_solve((factor, True), cotangent)
    return -of_vector[:, None] * found[None, :], of_vector


solve.defvjp(_solve, _solve_backward)


def substep(
    sys: System,
    known: Constants,
    compliance: Compliance,
    timestep: float,
    q: Array,
    qd: Array,
    action: Array,
) -> tuple[Array, Array]:
    """q and qd after one physics step of `timestep` seconds."""
    x, xd = kinematics.forward(sys, q, qd)
    state = dynamics.transform_com(sys, State.init(q, qd, x, xd))
    tau = actuator.to_tau(sys, action, q, qd)
    force = dynamics.forward(sys, state, tau)
    resistance = jnp.diag(sys.dof.damping)  # its force at the speed as it is stands in `force`
    for push, resist in (
        _contacts(sys, known, compliance, timestep, state),
        _at_stops(known.stops, compliance, timestep, q, qd),
    ):
        force = force + push - resist @ qd
        resistance = resistance + resist
    qdd = solve(mass.matrix(sys, state) + timestep * resistance, force)
    qd = qd + timestep * qdd
    return _moved(known, timestep, q, qd), qd


def _contacts(
    sys: System,
    known: Constants,
    compliance: Compliance,
    timestep: float,
    state: State,
) -> tuple[Array, Array]:
    """Generalized push (qd,) and resistance (qd, qd) of all contacts."""
    touching = contact.get(sys, state.x)
    if touching is None:
        return jnp.zeros_like(state.qd), jnp.zeros((state.qd.size, state.qd.size), state.qd.dtype)

    def one(c: Any) -> tuple[Array, Array]:
        jacobian = _point_jacobian(known, state, c.pos, c.link_idx[1])
        jacobian = jacobian - _point_jacobian(known, state, c.pos, c.link_idx[0])
        normal = c.frame[0]
        velocity = state.qd @ jacobian
        speed = velocity @ normal
        sliding = velocity - speed * normal
        push, resist, load = press(
            c.dist,
            speed,
            known.stiffness,
            known.damping,
            compliance.smoothing,
            timestep,
        )
        slowing = c.friction[0] * load / jnp.sqrt(sliding @ sliding + compliance.slip**2)
        along = jacobian @ normal
        # slowing * (1 - n n') + resist * n n', between the Jacobians
        resistance = slowing * (jacobian @ jacobian.T) + (resist - slowing) * jnp.outer(
            along, along
        )
        return push * along, resistance

    return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(one)(touching))


def _point_jacobian(known: Constants, state: State, point: Array, link: Array) -> Array:
    """Of the velocity of a point of a link, (qd, 3); zero for the world, link -1."""
    arm = point - state.root_com[link]
    velocity = state.cdof.vel + jnp.cross(
        state.cdof.ang, jnp.broadcast_to(arm, state.cdof.ang.shape)
    )
    return known.moves[link][:, None] * velocity


def _at_stops(
    stops: Stops | None, compliance: Compliance, timestep: float, q: Array, qd: Array
) -> tuple[Array, Array]:
    """Generalized push (qd,) and resistance (qd, qd) of all joint stops."""
    push, resist = jnp.zeros_like(qd), jnp.zeros_like(qd)
    if stops is not None:
        for side, limit in ((1.0, stops.low), (-1.0, stops.high)):
            # A side without a stop is infinitely far: kept finite, for its gradient's sake.
            gap = jnp.where(jnp.isfinite(limit), side * (q[stops.q] - limit), 1e3)
            out, hold, _ = press(
                gap,
                side * qd[stops.qd],
                stops.stiffness,
                stops.damping,
                compliance.stop_smoothing,
                timestep,
            )
            push = push.at[stops.qd].add(side * out)
            resist = resist.at[stops.qd].add(hold)
    return push, jnp.diag(resist)


def _moved(known: Constants, timestep: float, q: Array, qd: Array) -> Array:
    """q, after moving at qd; a free link's angular velocity is in its own frame."""
    moved = q.at[known.axes[0]].add(timestep * qd[known.axes[1]])
    for place, rate in zip(*known.free, strict=True):
        half = 0.5 * timestep * qd[rate[3:]]
        angle = jnp.sqrt(half @ half + 1e-12)  # the square root has no derivative at 0
        turn = jnp.concatenate([jnp.cos(angle)[None], jnp.sin(angle) / angle * half])
        rotation = math.quat_mul(q[place[3:]], turn)
        moved = moved.at[place[:3]].add(timestep * qd[rate[:3]])
        moved = moved.at[place[3:]].set(rotation / jnp.sqrt(rotation @ rotation))
    return moved
