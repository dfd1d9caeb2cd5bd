"""Contacts with the ground: which spheres of a Brax ``System`` meet which planes, in numpy."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from brax.base import System
from mujoco import mjtDisableBit, mjtGeom
from mujoco.mjx._src.collision_driver import geom_pairs

from rpgjax.physics.components import Component, Vector, constant


class UnsupportedSystemError(ValueError):
    """A fast physics, spring's or compliant contact's, cannot step this system; the message says why."""


def pairs_that_may_touch(sys: System) -> Iterator[tuple[int, int, int]]:
    """Two geometries each, and the explicit contact pair or -1; none where the model has no contacts."""
    if int(sys.opt.disableflags) & int(mjtDisableBit.mjDSBL_CONTACT):
        return
    yield from geom_pairs(sys)


def rotate(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Rotates vectors (..., 3) by unit quaternions (..., 4)."""
    s, u = q[..., :1], q[..., 1:]
    uv, uu = np.sum(u * v, -1, keepdims=True), np.sum(u * u, -1, keepdims=True)
    return 2 * uv * u + (s * s - uu) * v + 2 * s * np.cross(u, v)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton product of quaternions (..., 4)."""
    w = a[..., :1] * b[..., :1] - np.sum(a[..., 1:] * b[..., 1:], -1, keepdims=True)
    v = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:] + np.cross(a[..., 1:], b[..., 1:])
    return np.concatenate([w, v], -1)


class Contacts(NamedTuple):
    """Spheres at fixed places on the links of a group, each against a fixed plane.

    A capsule is two spheres. Columns are (slots, rows, 1), with as many slots as any link has spheres.
    """

    rows: tuple[int, ...] | None  # rows of the group that have contacts, None for all
    slots: int
    exists: np.ndarray | None  # (slots, rows, 1), None where every slot of every link is used
    centre: Vector  # seen from where `ground_points` was told
    radius: Component
    normal: Vector
    height: Component  # of the plane, along its normal
    friction: Component
    restitution: Component  # 1 + elasticity


class Point(NamedTuple):
    """A sphere on a link against a plane of the world."""

    link: int
    centre: np.ndarray  # seen from the link's centre of mass
    radius: float
    normal: np.ndarray
    height: float
    friction: float
    restitution: float


def combined_friction(sys: System, first: int, second: int) -> float:
    """Sliding friction between two geometries: the larger one, or that of the one with priority."""
    rank = int(sys.geom_priority[first]) - int(sys.geom_priority[second])
    friction = np.asarray(sys.geom_friction)[[first, second], 0]
    return float(friction.max() if rank == 0 else friction[0 if rank > 0 else 1])


def ground_points(
    sys: System, centre: np.ndarray, between_links: bool = False, boxes: bool = False
) -> list[Point]:
    """Every sphere that may touch a plane; ``centre`` (links, 3) is where the centres of mass are.

    Args:
        sys: the system.
        centre: where the points are seen from.
        between_links: leave out pairs of two links, which the caller knows what to do with.
        boxes: leave out spheres against boxes, which the caller knows what to do with.

    Raises:
        UnsupportedSystemError: another pair of geometries may touch, or not all pairs at once.
    """
    sphere, capsule, plane_type, box = (
        int(mjtGeom.mjGEOM_SPHERE),
        int(mjtGeom.mjGEOM_CAPSULE),
        int(mjtGeom.mjGEOM_PLANE),
        int(mjtGeom.mjGEOM_BOX),
    )
    position, rotation, size = (
        np.asarray(x, np.float64) for x in (sys.geom_pos, sys.geom_quat, sys.geom_size)
    )
    rotation = rotation / np.linalg.norm(rotation, axis=-1, keepdims=True)
    elasticity = np.asarray(sys.elasticity)
    up = np.array([0.0, 0.0, 1.0])
    points = []
    for plane, geom, pair in pairs_that_may_touch(sys):
        types = int(sys.geom_type[plane]), int(sys.geom_type[geom])
        link, ground = int(sys.geom_bodyid[geom]) - 1, int(sys.geom_bodyid[plane]) - 1
        if between_links and -1 not in (link, ground):
            continue
        if boxes and types == (sphere, box):
            continue
        if types[0] != plane_type or types[1] not in (sphere, capsule) or ground != -1:
            raise UnsupportedSystemError(f"a contact between geometry types {types}")
        if pair != -1 or link == -1:
            raise UnsupportedSystemError("an explicit contact pair, or a contact within the world")
        normal = rotate(rotation[plane], up)
        axis = rotate(rotation[geom], up) * size[geom, 1]
        for offset in (axis, -axis) if types[1] == capsule else (0.0 * axis,):
            point = Point(
                link=link,
                centre=position[geom] + offset - centre[link],
                radius=float(size[geom, 0]),
                normal=normal,
                height=float(position[plane] @ normal),
                friction=combined_friction(sys, plane, geom),
                restitution=1.0 + 0.5 * float(elasticity[plane] + elasticity[geom]),
            )
            points.append(point)
    if points:
        refuse_limits(sys)
    return points


def refuse_limits(sys: System) -> None:
    """Raises UnsupportedSystemError where not all contacts count at once."""
    model = sys.mj_model
    numeric = {model.numeric(i).name for i in range(model.nnumeric)} if model else set()
    if numeric & {"max_contact_points", "max_geom_pairs"}:
        raise UnsupportedSystemError("a limit on the number of contacts")


def contacts(points: list[Point], links: list[int]) -> Contacts | None:
    """Constants of the contacts of one group of links."""
    of = [[point for point in points if point.link == link] for link in links]
    rows = [row for row, mine in enumerate(of) if mine]
    if not rows:
        return None
    slots = max(len(mine) for mine in of)
    exists = np.array([[[float(k < len(of[row]))] for row in rows] for k in range(slots)])
    # A link with fewer spheres than another repeats its first one, which then counts for nothing.
    table = [[of[row][k if k < len(of[row]) else 0] for row in rows] for k in range(slots)]

    def column(name: str) -> Component:
        return constant(_squeezed([[[getattr(p, name)] for p in slot] for slot in table]))

    def vector(name: str) -> Vector:
        values = [[getattr(p, name) for p in slot] for slot in table]
        x, y, z = (constant(_squeezed(np.array(values)[..., i : i + 1])) for i in range(3))
        return x, y, z

    return Contacts(
        rows=None if len(rows) == len(links) else tuple(rows),
        slots=slots,
        exists=None if exists.all() else exists,
        centre=vector("centre"),
        radius=column("radius"),
        normal=vector("normal"),
        height=column("height"),
        friction=column("friction"),
        restitution=column("restitution"),
    )


def _squeezed(values: object) -> np.ndarray:
    """Columns (slots, rows, 1), or (rows, 1) where there is but one slot."""
    table = np.array(values, np.float64)
    return table[0] if len(table) == 1 else table
