"""Contacts between links: capsules on one link against capsules on another.

Constants in numpy, and where two capsules are closest on components. Only what keeps a tree's algorithm
going is known: the second link stands on the world by itself, with nothing on it (an object that an arm
pushes), and all that it touches is one link.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from brax.base import System
from mujoco import mjtGeom

from rpgjax.physics.components import (
    Component,
    Vector,
    add,
    constant,
    dot,
    minus,
    mul,
    plus,
    scale,
    sub,
)
from rpgjax.physics.ground import (
    UnsupportedSystemError,
    combined_friction,
    pairs_that_may_touch,
    refuse_limits,
    rotate,
)

PARALLEL = (
    1e-6  # of the product of two squared lengths: below that, no point is closer than another
)


class Capsules(NamedTuple):
    """One in each contact of a pair of links, (contacts, 1, 1) columns, in the link's frame."""

    centre: Vector
    axis: Vector  # from the centre to the middle of a cap
    radius: Component


class Touch(NamedTuple):
    """Two links that may touch."""

    links: tuple[int, int]  # Brax's indices; the second stands on the world by itself
    capsules: tuple[Capsules, Capsules]
    friction: Component
    contacts: int


def touches(sys: System) -> list[Touch]:
    """Every pair of links that may touch.

    Raises:
        UnsupportedSystemError: other geometries than capsules, or links that others depend on.
    """
    capsule = int(mjtGeom.mjGEOM_CAPSULE)
    bodies = np.asarray(sys.geom_bodyid) - 1
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for *pair, explicit in pairs_that_may_touch(sys):
        geoms = int(pair[0]), int(pair[1])
        links = tuple(int(bodies[geom]) for geom in geoms)
        if -1 in links:
            continue  # the ground's
        if explicit != -1:
            raise UnsupportedSystemError("an explicit contact pair")
        if any(int(sys.geom_type[geom]) != capsule for geom in geoms):
            raise UnsupportedSystemError("links that touch with something else than capsules")
        order = sorted(range(2), key=lambda i: links[i])
        key = links[order[0]], links[order[1]]
        found.setdefault(key, []).append((geoms[order[0]], geoms[order[1]]))
    if found:
        refuse_limits(sys)
    alone = [second for _, second in found]
    for first, second in found:
        stands_alone = sys.link_parents[second] == -1 and second not in sys.link_parents
        if not stands_alone or alone.count(second) > 1 or first in alone:
            raise UnsupportedSystemError("links that touch, both of them with others on them")
    return [_touch(sys, links, geoms) for links, geoms in found.items()]


def _touch(sys: System, links: tuple[int, int], geoms: list[tuple[int, int]]) -> Touch:
    def column(values: np.ndarray) -> Component:
        return constant(values[:, None, None])

    def vector(values: np.ndarray) -> Vector:
        x, y, z = (column(values[:, i]) for i in range(3))
        return x, y, z

    def capsules(of: list[int]) -> Capsules:
        position, rotation, size = (
            np.asarray(x, float)[of] for x in (sys.geom_pos, sys.geom_quat, sys.geom_size)
        )
        rotation = rotation / np.linalg.norm(rotation, axis=-1, keepdims=True)
        axis = rotate(rotation, np.array([0.0, 0.0, 1.0])) * size[:, 1:2]
        return Capsules(vector(position), vector(axis), column(size[:, 0]))

    first, second = (capsules([pair[i] for pair in geoms]) for i in range(2))
    friction = column(np.array([combined_friction(sys, *pair) for pair in geoms]))
    return Touch(links, (first, second), friction, len(geoms))


def closest(
    centres: tuple[Vector, Vector], axes: tuple[Vector, Vector]
) -> tuple[Component, Component]:
    """Where two segments centre + s axis, -1 <= s <= 1, are closest: s on each (Ericson, 2005, 5.1.9)."""
    (u, v), between = axes, minus(centres[1], centres[0])
    uu, uv, vv = jnp.asarray(dot(u, u)), dot(u, v), jnp.asarray(dot(v, v))
    along_u, along_v = dot(u, between), dot(v, between)
    free = sub(mul(uu, vv), mul(uv, uv)) + PARALLEL * uu * vv
    s = jnp.clip(sub(mul(along_u, vv), mul(along_v, uv)) / free, -1.0, 1.0)
    t = jnp.clip(sub(mul(s, uv), along_v) / vv, -1.0, 1.0)
    s = jnp.clip(add(mul(t, uv), along_u) / uu, -1.0, 1.0)
    return s, t


def gap_between(
    capsules: tuple[Capsules, Capsules], centres: tuple[Vector, Vector], axes: tuple[Vector, Vector]
) -> tuple[Component, Vector, Vector]:
    """Gap, m, the normal from the first to the second, and the point in the middle of the gap."""
    s, t = closest(centres, axes)
    first, second = (
        plus(centre, scale(k, axis)) for centre, axis, k in zip(centres, axes, (s, t), strict=True)
    )
    way = minus(second, first)
    length = jnp.sqrt(jnp.asarray(dot(way, way)) + 1e-18)
    normal = scale(1.0 / length, way)
    gap = sub(sub(length, capsules[0].radius), capsules[1].radius)
    point = plus(first, scale(add(capsules[0].radius, 0.5 * gap), normal))
    return gap, normal, point
