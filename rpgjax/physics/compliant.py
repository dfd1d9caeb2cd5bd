"""Compliant contact: Brax's generalized coordinates, with ground and joint stops that give a little.

A hard contact has no derivative where it sets in, and an exploding one soon after. Here a contact is a
spring and a damper with friction that is viscous below a slip speed, and a joint's stop is a spring and a
damper as well. All of them, and the joints' damping, are integrated linearly implicitly,

    (M + dt (B + D)) qdd = tau - bias + J' f - B qd,

one Cholesky solve a step: stable at steps of 10 ms and more, with nothing to iterate. What a state loses
in a contact it does not pass on, and so gradients stay small.
"""

import copy
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax import actuator, contact, kinematics, math
from brax.base import State as BaseState
from brax.base import System
from brax.envs.base import PipelineEnv
from brax.generalized import dynamics, mass
from brax.generalized.base import State

from rpgjax.types import Array


@dataclass(frozen=True)
class Compliance:
    """How soft contacts and stops are. Softer means smoother gradients and less exact motion.

    Raises:
        ValueError: a number that is not positive.
    """

    sag: float = 0.01  # m that the ground gives under the whole system's weight
    slip: float = 0.1  # m/s; friction is viscous well below, Coulomb's well above
    smoothing: float = 2e-3  # m over which a contact sets in
    overrun: float = 0.05  # rad, or m, by which a joint's own actuator can push it past its stop
    stop_smoothing: float = 0.01  # rad, or m, over which a stop sets in
    longest_step: float = 0.0125  # s of a physics step

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"{field.name} must be positive, not {value}")


class Stops(NamedTuple):
    """The joints with a range, (stops,) each."""

    q: np.ndarray  # index in q
    qd: np.ndarray  # index in qd
    low: Array
    high: Array
    stiffness: Array  # N m / rad, or N / m
    damping: Array


class Constants(NamedTuple):
    """What a system's steps need to know of it."""

    stiffness: float  # of a contact, N / m
    damping: float  # N s / m
    moves: Array  # (links + 1, qd): 1 where a degree of freedom moves a link; the last row is the world
    stops: Stops | None
    axes: tuple[np.ndarray, np.ndarray]  # hinges' and slides' indices in q and in qd
    free: tuple[np.ndarray, np.ndarray]  # free links', (links, 7) in q and (links, 6) in qd


def constants(sys: System, compliance: Compliance) -> Constants:
    """Of a concrete system."""
    total = float(np.sum(sys.link.inertia.mass))
    pull = float(np.linalg.norm(sys.gravity))
    # Without gravity contacts are as firm as on earth.
    weight = total * (pull if pull > 0 else 9.81)
    stiffness = weight / compliance.sag
    moves = np.zeros((sys.num_links() + 1, sys.qd_size()))
    links = np.asarray(sys.dof_link())
    for link in range(sys.num_links()):
        ancestor = link
        while ancestor >= 0:
            moves[link, links == ancestor] = 1.0
            ancestor = sys.link_parents[ancestor]
    return Constants(
        stiffness=stiffness,
        damping=2.0 * np.sqrt(stiffness * total),
        moves=jnp.asarray(moves),
        stops=_stops(sys, weight, compliance),
        axes=_indices(sys, "123"),
        free=tuple(
            each.reshape(-1, width) for each, width in zip(_indices(sys, "f"), (7, 6), strict=True)
        ),
    )


def _indices(sys: System, kinds: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the joints of some kinds, in q and in qd."""
    return np.asarray(sys.q_idx(kinds), int), np.asarray(sys.qd_idx(kinds), int)


def _stops(sys: System, weight: float, compliance: Compliance) -> Stops | None:
    if sys.dof.limit is None:
        return None
    low, high = (np.asarray(limit) for limit in sys.dof.limit)
    q, qd = _indices(sys, "123")
    limited = np.isfinite(low[qd]) | np.isfinite(high[qd])
    q, qd = q[limited], qd[limited]
    if not qd.size:
        return None
    push = np.zeros(sys.qd_size())
    if sys.act_size():
        act = sys.actuator
        reach = np.abs(np.asarray(act.gain)[:, None] * np.asarray(act.ctrl_range)).max(axis=1)
        strongest = np.minimum(reach, np.abs(np.asarray(act.force_range)).max(axis=1))
        np.maximum.at(push, np.asarray(act.qd_id), strongest * np.abs(np.asarray(act.gear)))
    # Where no actuator of a known strength pushes: the weight, at 10 cm.
    force = np.where(np.isfinite(push[qd]) & (push[qd] > 0), push[qd], 0.1 * weight)
    stiffness = force / compliance.overrun
    inertia = 1.0 / np.maximum(np.asarray(sys.dof.invweight)[qd], 1e-6)
    damping = 2.0 * np.sqrt(stiffness * inertia)
    numbers = (low[qd], high[qd], stiffness, damping)
    return Stops(q, qd, *map(jnp.asarray, numbers))


def press(
    gap: Array,
    speed: Array,
    stiffness: Array | float,
    damping: Array | float,
    width: float,
    timestep: float,
) -> tuple[Array, Array, Array]:
    """What a spring and a damper do to a gap that is closed: push it open.

    The damper grows with the depth (after Hunt and Crossley, 1975), so that a contact neither sets in with
    a blow nor sticks; one that opens fast is still held back a little. A force that is cut off where it
    would pull made gradients larger by orders of magnitude.

    Args:
        gap: negative where closed, m or rad.
        speed: its rate.
        stiffness, damping: of the spring, and of the damper at a depth of many widths.
        width: of the gap, over which they set in.
        timestep: s; the spring is to act on the gap at the step's end.

    Returns:
        push: the force at rest.
        resistance: c, so that push - c times the speed at the step's end is the force.
        now: the force at the speed as it is, not negative.
    """
    depth = width * jax.nn.softplus(-gap / width)
    resistance = jax.nn.sigmoid(-gap / width) * timestep * stiffness
    resistance = resistance + damping * depth / (depth + 10.0 * width)
    push = stiffness * depth
    return push, resistance, jnp.maximum(push - resistance * speed, 0.0)


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


def compliant(env: PipelineEnv, compliance: Compliance = Compliance()) -> PipelineEnv:
    """A copy of an environment on generalized coordinates whose contacts and stops give a little.

    A physics step is the environment's own step in as few parts as `compliance.longest_step` allows, each
    recomputed in the backward pass. The pipeline's state is Brax's base state: q, qd, x and xd.

    Raises:
        ValueError: the environment was not built for `generalized`.
    """
    if env.backend != "generalized":
        raise ValueError(f"compliant contact wants a generalized environment, not {env.backend}")
    sys, known = env.sys, constants(env.sys, compliance)
    parts = max(1, int(np.ceil(float(env.dt) / compliance.longest_step - 1e-6)))
    timestep = float(env.dt) / parts

    def state_of(q: Array, qd: Array) -> BaseState:
        x, xd = kinematics.forward(sys, q, qd)
        return BaseState(q=q, qd=qd, x=x, xd=xd, contact=None)

    def pipeline_init(q: Array, qd: Array, act: Any = None, ctrl: Any = None) -> BaseState:
        return state_of(q, qd)

    def pipeline_step(pipeline_state: BaseState, action: Array) -> BaseState:
        @jax.checkpoint
        def part(q: Array, qd: Array) -> tuple[Array, Array]:
            return substep(sys, known, compliance, timestep, q, qd, action)

        start = pipeline_state.q, pipeline_state.qd
        q, qd = jax.lax.scan(lambda now, _: (part(*now), None), start, None, parts)[0]
        return state_of(q, qd)

    env = copy.copy(env)
    env._backend = "compliant"
    env.pipeline_init, env.pipeline_step = pipeline_init, pipeline_step
    return env
