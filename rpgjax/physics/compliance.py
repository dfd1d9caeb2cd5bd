"""How soft contacts and joint stops are, and what a spring and a damper do to a closed gap."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.base import System

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
