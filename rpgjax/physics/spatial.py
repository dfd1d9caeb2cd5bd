"""Spatial vectors and inertias as tuples of components (Featherstone, Rigid Body Dynamics Algorithms).

A motion is an angular velocity and the velocity of the body's point at the origin, a wrench a torque
about the origin and a force: six components each, angular first. An inertia maps a motion to a wrench: a
symmetric matrix, its 21 upper entries row by row.
"""

from collections.abc import Sequence
from typing import TypeAlias

from rpgjax.physics.components import (
    Component,
    Vector,
    add,
    cross,
    mul,
    plus,
    scale,
    sub,
    total,
)

Spatial: TypeAlias = tuple[Component, ...]  # 6
Inertia: TypeAlias = tuple[Component, ...]  # 21
NOTHING: Spatial = (0.0,) * 6

_UPPER = [(i, j) for i in range(6) for j in range(i, 6)]
_PLACE = {pair: k for k, (i, j) in enumerate(_UPPER) for pair in ((i, j), (j, i))}


def spatial(angular: Vector, linear: Vector) -> Spatial:
    """From its two halves."""
    return (*angular, *linear)


def halves(x: Spatial) -> tuple[Vector, Vector]:
    """Angular and linear."""
    return (x[0], x[1], x[2]), (x[3], x[4], x[5])


def sum_of(a: Sequence[Component], b: Sequence[Component]) -> tuple[Component, ...]:
    """Of two spatial vectors, or of two inertias."""
    return tuple(add(x, y) for x, y in zip(a, b, strict=True))


def times(a: Component, x: Sequence[Component]) -> tuple[Component, ...]:
    """A number times a spatial vector or an inertia."""
    return tuple(mul(a, c) for c in x)


def turning(axis: Vector, point: Vector) -> Spatial:
    """Motion at unit speed about an axis through a point."""
    return spatial(axis, cross(point, axis))


def at(motion: Spatial, point: Vector) -> Vector:
    """Velocity of the body's point there."""
    angular, linear = halves(motion)
    return plus(linear, cross(angular, point))


def applied(force: Vector, point: Vector) -> Spatial:
    """Wrench of a force that acts at a point."""
    return spatial(cross(point, force), force)


def cross_motion(a: Spatial, b: Spatial) -> Spatial:
    """Rate of a motion b that is fixed to a body moving with a."""
    (w, v), (x, y) = halves(a), halves(b)
    return spatial(cross(w, x), plus(cross(w, y), cross(v, x)))


def cross_wrench(a: Spatial, b: Spatial) -> Spatial:
    """Rate of a wrench b that is fixed to a body moving with a."""
    (w, v), (n, f) = halves(a), halves(b)
    return spatial(plus(cross(w, n), cross(v, f)), cross(w, f))


def apply_inertia(inertia: Inertia, motion: Spatial) -> Spatial:
    """The wrench of a motion."""
    return tuple(total([mul(inertia[_PLACE[i, j]], motion[j]) for j in range(6)]) for i in range(6))


def full(inertia: Inertia) -> tuple[tuple[Component, ...], ...]:
    """All 36 entries of an inertia, row by row."""
    return tuple(tuple(inertia[_PLACE[i, j]] for j in range(6)) for i in range(6))


def apply_matrix(matrix: Sequence[Sequence[Component]], motion: Spatial) -> Spatial:
    """The wrench of a motion, by 6 x 6 entries that need not be symmetric."""
    return tuple(total([mul(c, x) for c, x in zip(row, motion, strict=True)]) for row in matrix)


def point_inertia(point: Vector, matrix: Sequence[Vector]) -> Inertia:
    """What maps motion to the wrench of the force `matrix` (3 rows, symmetric) times a point's velocity."""
    units: tuple[Vector, ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    columns = []  # angular directions, then linear ones: the wrench of a unit speed in each
    for unit in units:
        moved = cross(unit, point)
        force = tuple(total([mul(row[k], moved[k]) for k in range(3)]) for row in matrix)
        columns.append(applied((force[0], force[1], force[2]), point))
    columns += [applied(row, point) for row in matrix]
    return tuple(columns[j][i] for i, j in _UPPER)


def turning_inertia(entries: Sequence[Component]) -> Inertia:
    """Of a rotational inertia about the origin: its upper entries xx, xy, xz, yy, yz, zz."""
    upper = iter(entries)
    return tuple(next(upper) if j < 3 else 0.0 for _, j in _UPPER)


def without(inertia: Inertia, wrench: Spatial, inverse: Component) -> Inertia:
    """The inertia that is left where a joint gives way: less wrench wrench' times `inverse`."""
    part = times(inverse, wrench)
    return tuple(sub(c, mul(wrench[i], part[j])) for c, (i, j) in zip(inertia, _UPPER, strict=True))


def upper_product(a: Vector) -> tuple[Component, ...]:
    """Upper entries of a a'."""
    return tuple(mul(a[i], a[j]) for i in range(3) for j in range(i, 3))


def scaled_identity(k: Component) -> tuple[Vector, Vector, Vector]:
    """k times the identity, 3 rows."""
    return scale(k, (1.0, 0.0, 0.0)), scale(k, (0.0, 1.0, 0.0)), scale(k, (0.0, 0.0, 1.0))
