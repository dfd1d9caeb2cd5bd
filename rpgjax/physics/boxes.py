"""Spheres against boxes: walls that stand still, and blocks that are links themselves.

MuJoCo XLA finds the contact of a sphere and a box by a search over faces and edges; for a box it is the
point of the surface nearest to the sphere's centre, and has a closed form. Of many walls a sphere touches
few at once, and how many is known from where they are: only so many of the nearest are looked at.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.base import System
from mujoco import mjtGeom
from mujoco.mjx._src.collision_driver import geom_pairs

from rpgjax.physics.components import (
    Component,
    Matrix,
    Vector,
    apply,
    apply_transposed,
    fence,
    minus,
    safe_length,
    sub,
)
from rpgjax.physics.ground import (
    Slots,
    UnsupportedSystemError,
    combined_friction,
    refuse_limits,
    rotate,
)
from rpgjax.physics.spring_spin import Place, Spin, spin_of


class Sphere(NamedTuple):
    """A sphere on a link, and how it rubs against the boxes that it may touch."""

    link: int
    centre: np.ndarray  # seen from the link's centre of mass
    radius: float
    friction: float
    restitution: float  # 1 + elasticity


class Box(NamedTuple):
    """A box in the frame of its link, seen from the centre of mass; of the world, in the world's."""

    centre: Vector
    axes: Matrix
    half: Vector  # of its sides


class BoxContacts(NamedTuple):
    """Spheres on the links of a group against boxes of one link, or of the world.

    Columns are (slots, rows, 1) as in :class:`rpgjax.physics.ground.Contacts`.
    """

    group: int
    rows: tuple[int, ...] | None
    slots: int
    exists: np.ndarray | None
    centre: Vector
    radius: Component
    friction: Component
    restitution: Component
    spin: Spin  # that the spheres' links are seen with
    boxes: tuple[Box, ...]
    most: int  # boxes that a sphere can touch at once
    link: tuple[int, int] | None  # group and row of the boxes' link, None for the world
    box_spin: Spin | None


Pairs = dict[tuple[int, int], list[int]]
"""Boxes that a sphere may touch, by the sphere and the boxes' link; -1 is the world."""


def box_contacts(
    sys: System, centre: np.ndarray, groups: list[list[int]], inverse: np.ndarray, place: Place
) -> tuple[BoxContacts, ...]:
    """Constants of all contacts of spheres with boxes.

    Args:
        sys: the system.
        centre: (links, 3), where the links' centres of mass are.
        groups: links of each group of joints.
        inverse: (links, 3), inverse principal inertia.
        place: group and row of every link.

    Raises:
        UnsupportedSystemError: an explicit pair, not all pairs at once, or spheres for which boxes of
            one link differ in more than place and size.
    """
    link_of = np.asarray(sys.geom_bodyid) - 1
    boxes_of: Pairs = {}
    for sphere, box in _pairs(sys):
        boxes_of.setdefault((sphere, int(link_of[box])), []).append(box)
    result = []
    for group, links in enumerate(groups):
        mine = {key: boxes for key, boxes in boxes_of.items() if link_of[key[0]] in links}
        # Spheres that may touch the same boxes are one operation.
        for box_link, boxes in sorted({(key[1], tuple(boxes)) for key, boxes in mine.items()}):
            same = [
                s for (s, on), others in mine.items() if (on, tuple(others)) == (box_link, boxes)
            ]
            spheres = [_sphere(sys, sphere, boxes, centre) for sphere in same]
            slots = Slots(spheres, links)
            moves = box_link >= 0
            result.append(
                BoxContacts(
                    group=group,
                    rows=slots.rows,
                    slots=slots.count,
                    exists=slots.exists,
                    centre=slots.vector(lambda p: p.centre),
                    radius=slots.column(lambda p: p.radius),
                    friction=slots.column(lambda p: p.friction),
                    restitution=slots.column(lambda p: p.restitution),
                    spin=spin_of(inverse, slots.links, place),
                    boxes=(solid := tuple(_box(sys, box, centre) for box in boxes)),
                    most=most_at_once(solid, max(sphere.radius for sphere in spheres)),
                    link=place[box_link] if moves else None,
                    box_spin=spin_of(inverse, [box_link], place) if moves else None,
                )
            )
    return tuple(result)


def _pairs(sys: System) -> list[tuple[int, int]]:
    """Geometries, a sphere and a box each, that may touch."""
    wanted = int(mjtGeom.mjGEOM_SPHERE), int(mjtGeom.mjGEOM_BOX)
    pairs = []
    for sphere, box, pair in geom_pairs(sys):
        if (int(sys.geom_type[sphere]), int(sys.geom_type[box])) == wanted:
            if pair != -1 or int(sys.geom_bodyid[sphere]) == 0:
                raise UnsupportedSystemError("an explicit contact pair, or a sphere of the world")
            pairs.append((int(sphere), int(box)))
    if pairs:
        refuse_limits(sys)
    return pairs


def _sphere(sys: System, sphere: int, boxes: tuple[int, ...], centre: np.ndarray) -> Sphere:
    link, elasticity = int(sys.geom_bodyid[sphere]) - 1, np.asarray(sys.elasticity)
    materials = {
        (combined_friction(sys, sphere, box), 1.0 + 0.5 * float(elasticity[[sphere, box]].sum()))
        for box in boxes
    }
    if len(materials) > 1:
        raise UnsupportedSystemError("boxes of one link that differ in friction or elasticity")
    [(friction, restitution)] = materials
    position = np.asarray(sys.geom_pos[sphere], np.float64) - centre[link]
    return Sphere(link, position, float(sys.geom_size[sphere, 0]), friction, restitution)


def _box(sys: System, box: int, centre: np.ndarray) -> Box:
    link, position = int(sys.geom_bodyid[box]) - 1, np.asarray(sys.geom_pos[box], np.float64)
    rotation = np.asarray(sys.geom_quat[box], np.float64)
    axes = rotate(rotation / np.linalg.norm(rotation), np.eye(3)).tolist()
    seen = position - centre[link] if link >= 0 else position
    return Box(
        (*seen.tolist(),),
        ((*axes[0],), (*axes[1],), (*axes[2],)),
        (*np.asarray(sys.geom_size[box], np.float64).tolist(),),
    )


def most_at_once(boxes: tuple[Box, ...], radius: float) -> int:
    """How many of some boxes a sphere can touch at once, or more.

    Where some upright boxes meet, the lowest corner of what they share has each of its coordinates from
    the lowest corner of one of them: it is enough to count there.
    """
    middle = np.array([box.centre for box in boxes])
    reach = np.array([np.abs(np.array(box.axes)).T @ box.half for box in boxes]) + radius
    low, high = middle - reach - 1e-6, middle + reach + 1e-6
    corners = np.meshgrid(*(np.unique(low[:, axis]) for axis in range(3)), indexing="ij")
    points = np.stack([c.ravel() for c in corners], -1)[:, None]
    return int(np.max(np.sum(np.all((points >= low) & (points <= high), -1), -1)))


def closest(point: Vector, boxes: tuple[Box, ...], most: int) -> list[Box]:
    """So many boxes, with those that are nearest to each point among them.

    Args:
        point: in the boxes' frame.
        boxes: where they are.
        most: how many; all that are nearer than a distance are among them where they can be no more.
    """
    if most >= len(boxes):
        return list(boxes)
    point = jax.lax.stop_gradient(point)
    levels = []
    for box in boxes:
        x, y, z = _beyond(point, box)[1]
        levels.append(jnp.maximum(jnp.maximum(x, y), z))
    result = []
    for _ in range(most):
        lowest = levels[0]
        for level in levels[1:]:
            lowest = jnp.minimum(lowest, level)
        box, found = boxes[0], jnp.zeros(lowest.shape, bool)
        for i, other in enumerate(boxes):
            here = (levels[i] == lowest) & ~found
            found = found | here
            levels[i] = jnp.where(here, jnp.inf, levels[i])
            box = jax.tree.map(
                lambda old, new, here=here: old if old is new else jnp.where(here, new, old),
                box,
                other,
            )
        result.append(box)
    return result


def _beyond(point: Vector, box: Box) -> tuple[list[jax.Array], list[jax.Array]]:
    """Points in a box's axes, and how far they are beyond its sides."""
    local = [jnp.asarray(c) for c in apply(box.axes, minus(point, box.centre))]
    return local, [jnp.asarray(sub(jnp.abs(c), h)) for c, h in zip(local, box.half, strict=True)]


def nearest(point: Vector, box: Box, one: Component = 1.0) -> tuple[jax.Array, Vector]:
    """Signed distance of points to the surface of boxes, and the direction away from it.

    Outside, the distance is that to the nearest point of the box; inside, where it is negative, that to
    the nearest face.

    Args:
        point: in the boxes' frame.
        box: a box, or one for each point.
        one: the number 1 where XLA is to keep shared values, see :func:`components.fence`.
    """
    local, beyond = fence(_beyond(point, box), one)
    x, y, z = beyond
    outside = [jnp.maximum(b, 0.0) for b in beyond]
    length = fence(jnp.asarray(safe_length((*outside,))), one)
    inside = length < 1e-6
    first = (x >= y) & (x >= z)
    faces = first, ~first & (y >= z), ~first & (y < z)
    shrink = 1.0 / jnp.where(inside, 1.0, length)
    a, b, c = (
        jnp.where(c < 0.0, -1.0, 1.0) * jnp.where(inside, face.astype(c.dtype), shrink * out)
        for c, face, out in zip(local, faces, outside, strict=True)
    )
    level = jnp.where(inside, jnp.maximum(jnp.maximum(x, y), z), length)
    return fence((level, apply_transposed(box.axes, (a, b, c))), one)
