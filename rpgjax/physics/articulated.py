"""Trees of links on arrays whose last axis is the batch: kinematics, and the articulated-body algorithm.

Everything is taken about one point, the first link's position, which stands still for the length of a
substep (Featherstone, Rigid Body Dynamics Algorithms, chapters 3, 5 and 7).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.physics.compliant_system import Branch
from rpgjax.physics.components import (
    IDENTITY,
    ZERO,
    Component,
    Matrix,
    Quaternion,
    Vector,
    add,
    apply,
    dot,
    fence,
    minus,
    mul,
    plus,
    quaternion_product,
    rotation,
    scale,
    sub,
)
from rpgjax.physics.rows import take
from rpgjax.physics.spatial import (
    NOTHING,
    Inertia,
    Spatial,
    apply_inertia,
    apply_matrix,
    cross_motion,
    cross_wrench,
    full,
    point_inertia,
    scaled_identity,
    spatial,
    sum_of,
    times,
    turning,
    turning_inertia,
    upper_product,
    without,
)
from rpgjax.physics.trees import at_rows, to_parents

Rows: TypeAlias = list[jax.Array]
"""A branch's coordinates, (rows, batch) each."""

Line: TypeAlias = tuple[Vector, Vector]
"""A direction, and a point that it goes through."""


class Placed(NamedTuple):
    """Where a branch's links are, in the world."""

    position: Vector
    rotation: Quaternion
    matrix: Matrix
    axes: tuple[Line, ...]  # of every degree of freedom


class Moving(NamedTuple):
    """How a branch's links move, about the origin."""

    dofs: tuple[Spatial, ...]  # motion of each degree of freedom at unit speed
    velocity: Spatial
    drift: Spatial  # acceleration, less gravity's, where no joint accelerates


class Tie(NamedTuple):
    """What acts on a branch's link as it moves against a link of another branch, one that comes before."""

    to: int  # that branch; both have one link, and this one's parent is the world
    inertia: Inertia  # on the difference of their motions


def place_links(branches: Sequence[Branch], q: jax.Array, one: Component) -> list[Placed]:
    """Kinematics."""
    placed: list[Placed] = []
    for branch in branches:
        here = [take(q, rows) for rows in branch.q]
        if not branch.dofs:
            position, quaternion = (*here[:3],), (*here[3:],)
            matrix = fence(rotation(quaternion), one)
            columns = tuple(tuple(row[k] for row in matrix) for k in range(3))
            axes = tuple((axis, position) for axis in columns)
            placed.append(Placed(position, quaternion, matrix, axes))
            continue
        base = Placed(ZERO, (1.0, 0.0, 0.0, 0.0), IDENTITY, ())
        if branch.parent is not None:
            base = at_rows(placed[branch.parent]._replace(axes=()), branch.parent_rows)
        quaternion = quaternion_product(base.rotation, branch.turn)
        matrix = rotation(quaternion)
        point = plus(base.position, apply(base.matrix, branch.offset))
        point = plus(point, apply(matrix, branch.anchor))
        axes = []
        for dof, value in zip(branch.dofs, here, strict=True):
            axis = apply(matrix, dof.axis)
            if dof.turns:
                axes.append((axis, point))
                half = 0.5 * value
                turn = (jnp.cos(half), *scale(jnp.sin(half), dof.axis))
                quaternion = fence(quaternion_product(quaternion, turn), one)
                matrix = fence(rotation(quaternion), one)
            else:
                point = plus(point, scale(value, axis))
                axes.append((axis, point))
        position = minus(point, apply(matrix, branch.anchor))
        placed.append(fence(Placed(position, quaternion, matrix, tuple(axes)), one))
    return placed


def first_link(placed: list[Placed]) -> Vector:
    """The origin: the first link's position, (1, batch)."""
    x, y, z = (c[:1] if isinstance(c, jax.Array | np.ndarray) else c for c in placed[0].position)
    return x, y, z


def move_links(
    branches: Sequence[Branch],
    placed: list[Placed],
    origin: Vector,
    gravity: Vector,
    qd: jax.Array,
    one: Component,
) -> list[Moving]:
    """Velocities, and the accelerations that they and gravity bring about."""
    moving: list[Moving] = []
    for branch, where in zip(branches, placed, strict=True):
        rates = [take(qd, rows) for rows in branch.qd]
        velocity, drift = NOTHING, spatial(ZERO, scale(-1.0, gravity))
        if branch.parent is not None:
            above = moving[branch.parent]
            velocity, drift = at_rows((above.velocity, above.drift), branch.parent_rows)
        turns = [turning(axis, minus(point, origin)) for axis, point in where.axes]
        if not branch.dofs:  # x, y, z of the world, then about the link's own axes
            slides = [spatial(ZERO, axis) for axis in IDENTITY]
            velocity = spatial(ZERO, (*rates[:3],))
            spin = NOTHING
            for motion, rate in zip(turns, rates[3:], strict=True):
                spin = sum_of(spin, times(rate, motion))
            drift = sum_of(drift, cross_motion(velocity, spin))
            velocity = sum_of(velocity, spin)
            motions = [*slides, *turns]
        else:
            motions = []
            for dof, (axis, _), turn, rate in zip(
                branch.dofs, where.axes, turns, rates, strict=True
            ):
                motion = turn if dof.turns else spatial(ZERO, axis)
                motion = fence(motion, one)
                step = times(rate, motion)
                drift = sum_of(drift, cross_motion(velocity, step))
                velocity = sum_of(velocity, step)
                motions.append(motion)
        moving.append(fence(Moving(tuple(motions), velocity, drift), one))
    return moving


def own_inertia(
    branch: Branch, where: Placed, moving: Moving, origin: Vector
) -> tuple[Inertia, Spatial]:
    """A link's inertia, and the wrench that its drift takes."""
    centre = minus(plus(where.position, apply(where.matrix, branch.centre)), origin)
    upper = [mul(branch.round, c) for c in (1.0, 0.0, 0.0, 1.0, 0.0, 1.0)]
    for weight, axis in branch.ridges:
        along = upper_product(apply(where.matrix, axis))
        upper = [add(a, mul(weight, b)) for a, b in zip(upper, along, strict=True)]
    inertia = sum_of(point_inertia(centre, scaled_identity(branch.mass)), turning_inertia(upper))
    momentum = apply_inertia(inertia, moving.velocity)
    wrench = sum_of(apply_inertia(inertia, moving.drift), cross_wrench(moving.velocity, momentum))
    return inertia, wrench


class Other(NamedTuple):
    """What a tie sets against the other link, as the joints of this one give way."""

    both: tuple[tuple[Component, ...], ...]  # 6 x 6, a motion of this link to a wrench on the other
    inertia: Inertia
    wrench: Spatial

    def giving_way(
        self, pull: Spatial, pull_back: Spatial, inverse: Component, left: Component
    ) -> "Other":
        """Less what one joint gives."""
        part = times(inverse, pull_back)
        both = tuple(
            tuple(sub(c, mul(p, q)) for c, q in zip(row, pull, strict=True))
            for row, p in zip(self.both, part, strict=True)
        )
        inertia = without(self.inertia, pull_back, inverse)
        return Other(both, inertia, sum_of(self.wrench, times(left, part)))


def accelerations(
    branches: Sequence[Branch],
    inertias: list[Inertia],
    wrenches: list[Spatial],
    moving: list[Moving],
    drives: list[list[tuple[Component, Component]]],
    one: Component,
    ties: Mapping[int, Tie] = MappingProxyType({}),
) -> list[Rows]:
    """Of every degree of freedom by branch: the articulated-body algorithm.

    Args:
        branches: constants.
        inertias: by branch, what stands against a link's acceleration.
        wrenches: that links want of their joints where no joint accelerates.
        moving: the joints' motions.
        drives: by branch and degree of freedom, the force along it, and the rotor's inertia.
        one: see :func:`components.fence`.
        ties: by branch, where it has one.
    """
    inertias, wrenches = list(inertias), list(wrenches)
    ways = []  # by branch, by degree of freedom: both from the last
    for index in reversed(range(len(branches))):
        branch = branches[index]
        inertia, wrench, way = inertias[index], wrenches[index], []
        tie = ties.get(index)
        if tie is not None:
            inertia = sum_of(inertia, tie.inertia)
            other = Other(full(times(-1.0, tie.inertia)), tie.inertia, NOTHING)
        for motion, (force, rotor) in zip(
            reversed(moving[index].dofs), reversed(drives[index]), strict=True
        ):
            pull = fence(apply_inertia(inertia, motion), one)
            inverse = fence(1.0 / jnp.asarray(add(dot(motion, pull), rotor)), one)
            left = fence(sub(force, dot(motion, wrench)), one)
            pull_back = NOTHING  # on the other link
            if tie is not None:
                pull_back = fence(apply_matrix(other.both, motion), one)
                other = fence(other.giving_way(pull, pull_back, inverse, left), one)
            inertia = fence(without(inertia, pull, inverse), one)
            wrench = fence(sum_of(wrench, times(mul(inverse, left), pull)), one)
            way.append((pull, pull_back, inverse, left))
        ways.append(way)
        if tie is not None:
            inertias[tie.to] = sum_of(inertias[tie.to], other.inertia)
            wrenches[tie.to] = sum_of(wrenches[tie.to], other.wrench)
        if branch.parent is not None:
            rows = len(branches[branch.parent].links)
            more = to_parents((inertia, wrench), branch.parent_rows, len(branch.links), rows)
            inertias[branch.parent] = sum_of(inertias[branch.parent], more[0])
            wrenches[branch.parent] = sum_of(wrenches[branch.parent], more[1])
    result, reached = [], []
    for index, (branch, way) in enumerate(zip(branches, reversed(ways), strict=True)):
        motion_now = NOTHING
        if branch.parent is not None:
            motion_now = at_rows(reached[branch.parent], branch.parent_rows)
        beyond = reached[ties[index].to] if index in ties else NOTHING
        found = []
        for motion, (pull, pull_back, inverse, left) in zip(
            moving[index].dofs, reversed(way), strict=True
        ):
            left = sub(left, dot(pull_back, beyond))
            rate = fence(mul(inverse, sub(left, dot(pull, motion_now))), one)
            motion_now = sum_of(motion_now, times(rate, motion))
            found.append(jnp.asarray(rate))
        reached.append(fence(motion_now, one))
        result.append(found)
    return result
