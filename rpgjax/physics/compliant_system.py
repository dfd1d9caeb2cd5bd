"""What the fast compliant physics needs of a Brax `System`, worked out once in numpy."""

from typing import NamedTuple

import numpy as np
from brax.base import Q_WIDTHS, QD_WIDTHS, System

from rpgjax.physics.actuators import Actuators, actuators
from rpgjax.physics.capsules import Touch, touches
from rpgjax.physics.compliance import Compliance, Stops, constants
from rpgjax.physics.components import Component, Quaternion, Vector, constant, constant_vector
from rpgjax.physics.fluid import Fluid, fluid
from rpgjax.physics.ground import (
    Contacts,
    UnsupportedSystemError,
    contacts,
    ground_points,
    rotate,
)

FAR = 1e3  # rad or m: where a stop is that is not there


class Stop(NamedTuple):
    """A joint's range, and what holds it."""

    low: Component
    high: Component
    stiffness: Component  # N m / rad, or N / m
    damping: Component


class Dof(NamedTuple):
    """One degree of freedom of every link of a branch."""

    turns: bool  # else it slides
    axis: Vector  # in the frame that the joint's dofs before it have moved
    stiffness: Component
    damping: Component
    armature: Component
    stop: Stop | None


class Branch(NamedTuple):
    """Links with the same kind of joint to parents in the same branch, one row each."""

    links: tuple[int, ...]  # Brax's index of each
    parent: int | None  # branch of the parents, None for the world
    parent_rows: tuple[int, ...] | None  # their rows there, None where each is its own row
    dofs: tuple[Dof, ...]  # () for links without a joint
    q: tuple[tuple[int, ...], ...]  # places in Brax's q by coordinate, one per row
    qd: tuple[tuple[int, ...], ...]
    offset: Vector  # of the link's frame, in the parent's
    turn: Quaternion
    anchor: Vector  # of the joint, in the link's frame
    mass: Component
    centre: Vector  # of mass, in the link's frame
    round: Component  # rotational inertia about every axis, and what some have beyond it
    ridges: tuple[tuple[Component, Vector], ...]
    contacts: Contacts | None
    fluid: Fluid | None


class CompliantSystem(NamedTuple):
    """Constants of a Brax system."""

    branches: tuple[Branch, ...]  # parents before children
    touches: tuple[tuple[int, int, Touch], ...]  # branches of two links, each the only one in it
    place: tuple[int, ...]  # row of each of Brax's links when the branches are concatenated
    gravity: Vector
    timestep: float
    stiffness: float  # of a contact, N / m
    damping: float  # N s / m
    compliance: Compliance
    actuators: Actuators
    dof_count: int


def compliant_system(sys: System, compliance: Compliance, timestep: float) -> CompliantSystem:
    """Works out the constants of a Brax system.

    Raises:
        UnsupportedSystemError: it has something that the fast path does not know.
    """
    points = ground_points(sys, np.zeros((sys.num_links(), 3)), between_links=True)
    touching = touches(sys)
    apart = {link for touch in touching for link in touch.links}
    known = constants(sys, compliance)
    stops = {}
    if known.stops is not None:
        stops = {int(qd): row for row, qd in enumerate(known.stops.qd)}
    starts = [
        np.cumsum([0] + [widths[t] for t in sys.link_types])[:-1]
        for widths in (Q_WIDTHS, QD_WIDTHS)
    ]
    angular, linear = (np.asarray(x, float) for x in (sys.dof.motion.ang, sys.dof.motion.vel))

    resisted = np.asarray(sys.dof.damping) + np.asarray(sys.dof.armature)
    resisted[np.asarray(sys.actuator.qd_id, int)] += 1.0

    def pattern(link: int) -> tuple[bool, ...]:
        kind = sys.link_types[link]
        index = starts[1][link] + np.arange(QD_WIDTHS[kind])
        if kind == "f":
            if np.any(resisted[index]):
                raise UnsupportedSystemError("a free joint with damping, armature or a motor")
            return ()
        turns, slides = angular[index].any(1), linear[index].any(1)
        if np.any(turns == slides):
            raise UnsupportedSystemError(
                "a degree of freedom that neither only turns nor only slides"
            )
        return tuple(map(bool, turns))

    groups: dict[tuple[tuple[bool, ...], int, int], list[int]] = {}
    group_of: dict[int, int] = {-1: -1}
    for link, parent in enumerate(map(int, sys.link_parents)):
        # A link that touches another is a branch of its own.
        key = pattern(link), group_of[parent], link if link in apart else -1
        groups.setdefault(key, []).append(link)
        group_of[link] = list(groups).index(key)
    members = list(groups.values())

    def branch(turns: tuple[bool, ...], parent: int, links: list[int]) -> Branch:
        index = np.array(links)

        def column(values: object) -> Component:
            return constant(np.asarray(values, float)[index][:, None])

        def vector(values: object) -> Vector:
            return constant_vector(np.asarray(values, float)[index])

        kind = sys.link_types[links[0]]
        q, qd = (
            tuple(tuple((start[index] + i).tolist()) for i in range(widths[kind]))
            for start, widths in zip(starts, (Q_WIDTHS, QD_WIDTHS), strict=True)
        )
        dofs = []
        for i, of in zip(turns, qd, strict=False):
            rows = list(of)
            axis = (angular if i else linear)[rows]
            values = (
                np.asarray(x, float) for x in (sys.dof.stiffness, sys.dof.damping, sys.dof.armature)
            )
            numbers = [constant(x[rows][:, None]) for x in values]
            axis = axis / np.linalg.norm(axis, axis=1, keepdims=True)
            dofs.append(Dof(i, constant_vector(axis), *numbers, _stop(known.stops, stops, rows)))
        rows = (
            [] if parent < 0 else [members[parent].index(int(sys.link_parents[k])) for k in links]
        )
        aligned = parent < 0 or len(members[parent]) == 1
        aligned = aligned or rows == list(range(len(members[parent])))
        turn = np.asarray(sys.link.transform.rot, float)[index]
        w, x, y, z = (constant(turn[:, i : i + 1]) for i in range(4))
        round_, ridges = _shape(sys, links)
        return Branch(
            links=tuple(links),
            parent=None if parent < 0 else parent,
            parent_rows=None if aligned else tuple(rows),
            dofs=tuple(dofs),
            q=q,
            qd=qd,
            offset=vector(sys.link.transform.pos),
            turn=(w, x, y, z),
            anchor=vector(sys.link.joint.pos),
            mass=column(sys.link.inertia.mass),
            centre=vector(sys.link.inertia.transform.pos),
            round=round_,
            ridges=ridges,
            contacts=contacts(points, links),
            fluid=fluid(sys, links),
        )

    branches = tuple(branch(*key[:2], links) for key, links in groups.items())
    order = [link for links in members for link in links]
    return CompliantSystem(
        branches=branches,
        touches=tuple((*(group_of[link] for link in touch.links), touch) for touch in touching),
        place=tuple(order.index(link) for link in range(sys.num_links())),
        gravity=constant_vector(np.asarray(sys.gravity)[None]),
        timestep=timestep,
        stiffness=float(known.stiffness),
        damping=float(known.damping),
        compliance=compliance,
        actuators=actuators(sys),
        dof_count=sys.qd_size(),
    )


def _stop(stops: Stops | None, rows_of: dict[int, int], of: list[int]) -> Stop | None:
    """Of one degree of freedom of a branch; None where no link's has a range."""
    if not any(qd in rows_of for qd in of):
        return None
    low, high, stiffness, damping = (
        np.array([getattr(stops, name)[rows_of[qd]] if qd in rows_of else otherwise for qd in of])
        for name, otherwise in (("low", -FAR), ("high", FAR), ("stiffness", 0.0), ("damping", 0.0))
    )
    columns = (np.clip(low, -FAR, FAR), np.clip(high, -FAR, FAR), stiffness, damping)
    return Stop(*(constant(np.asarray(x, float)[:, None]) for x in columns))


def _shape(sys: System, links: list[int]) -> tuple[Component, tuple[tuple[Component, Vector], ...]]:
    """Rotational inertia about the centres of mass: k 1 + sum of ridges w a a', a in the links' frames."""
    rounds, ridges = [], []
    for link in links:
        values, axes = np.linalg.eigh(np.asarray(sys.link.inertia.i, float)[link])
        rotation = np.asarray(sys.link.inertia.transform.rot, float)[link]
        axes = rotate(rotation / np.linalg.norm(rotation), axes.T)
        middle = values[1]
        rounds.append(middle)
        ridges.append(
            [
                (value - middle, axis)
                for value, axis in zip(values, axes, strict=True)
                if abs(value - middle) > 1e-9 * middle
            ]
        )
    count = max(map(len, ridges))
    none = (0.0, np.array([1.0, 0.0, 0.0]))
    padded = [row + [none] * (count - len(row)) for row in ridges]
    return constant(np.array(rounds)[:, None]), tuple(
        (
            constant(np.array([[row[k][0]] for row in padded])),
            constant_vector(np.array([row[k][1] for row in padded])),
        )
        for k in range(count)
    )
