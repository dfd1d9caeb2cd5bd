"""Spheres against boxes: walls that stand still, and blocks that are links themselves.

MuJoCo XLA finds the contact of a sphere and a box by a search over faces and edges; for a box it is the
point of the surface nearest to the sphere's centre, and has a closed form. Of many walls a sphere touches
few at once, and how many is known from where they are: only so many of the nearest are looked at.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.base import System
from mujoco import mjtGeom

from rpgjax.physics.components import (
    Component,
    Matrix,
    Vector,
    apply,
    apply_transposed,
    constant,
    constant_vector,
    fence,
    minus,
    safe_length,
    sub,
)
from rpgjax.physics.ground import (
    UnsupportedSystemError,
    combined_friction,
    pairs_that_may_touch,
    refuse_limits,
    rotate,
)
from rpgjax.physics.spring_spin import Place, Spin, spin_of


class Box(NamedTuple):
    """A box in the frame of its link, seen from the centre of mass; of the world, in the world's."""

    centre: Vector
    axes: Matrix
    half: Vector  # of its sides


class BoxContacts(NamedTuple):
    """Spheres on links against boxes of one link, or of the world; columns are (spheres, 1).

    A sphere that can touch several of the boxes at once is there as many times: `closest` gives each
    of them another box.
    """

    rows: tuple[int, ...]  # of the spheres' links, in the order of the groups
    centre: Vector
    radius: Component
    friction: Component
    restitution: Component
    inverse_mass: Component
    spin: Spin  # that the spheres' links are seen with
    boxes: tuple[Box, ...]
    most: int  # boxes that a sphere can touch at once
    link: int | None  # row of the boxes' link, None for the world
    box_mass: Component  # inverse
    box_spin: Spin | None


def box_contacts(
    sys: System, centre: np.ndarray, mass: np.ndarray, inverse: np.ndarray, place: Place
) -> tuple[BoxContacts, ...]:
    """Constants of all contacts of spheres with boxes.

    Args:
        sys: the system.
        centre: (links, 3), where the links' centres of mass are.
        mass: (links,).
        inverse: (links, 3), inverse principal inertia.
        place: group and row of every link.

    Raises:
        UnsupportedSystemError: an explicit pair, not all pairs at once, or spheres for which boxes of
            one link differ in more than place and size.
    """
    link_of = np.asarray(sys.geom_bodyid) - 1
    order = sorted(place, key=lambda link: place[link])
    boxes_of: dict[tuple[int, int], list[int]] = {}  # by the sphere and the boxes' link
    for sphere, box in _pairs(sys):
        boxes_of.setdefault((sphere, int(link_of[box])), []).append(box)
    together: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for (sphere, box_link), boxes in boxes_of.items():
        together.setdefault((box_link, tuple(boxes)), []).append(sphere)
    result = []
    for (box_link, boxes), spheres in together.items():
        solid = tuple(_box(sys, box, centre) for box in boxes)
        radii = np.asarray(sys.geom_size, np.float64)[:, 0]
        most = most_at_once(solid, float(radii[spheres].max()))
        spheres = spheres * most
        links = link_of[spheres].tolist()
        materials = np.array([_material(sys, sphere, boxes) for sphere in spheres])
        moves = box_link >= 0
        result.append(
            BoxContacts(
                rows=tuple(order.index(link) for link in links),
                centre=constant_vector(np.asarray(sys.geom_pos)[spheres] - centre[links]),
                radius=constant(radii[spheres, None]),
                friction=constant(materials[:, :1]),
                restitution=constant(materials[:, 1:]),
                inverse_mass=constant(1.0 / mass[links, None]),
                spin=spin_of(inverse, links, place),
                boxes=solid,
                most=most,
                link=order.index(box_link) if moves else None,
                box_mass=float(1.0 / mass[box_link]) if moves else 0.0,
                box_spin=spin_of(inverse, [box_link], place) if moves else None,
            )
        )
    return tuple(result)


def _pairs(sys: System) -> list[tuple[int, int]]:
    """Geometries, a sphere and a box each, that may touch."""
    wanted = int(mjtGeom.mjGEOM_SPHERE), int(mjtGeom.mjGEOM_BOX)
    pairs = []
    for sphere, box, pair in pairs_that_may_touch(sys):
        if (int(sys.geom_type[sphere]), int(sys.geom_type[box])) == wanted:
            if pair != -1 or int(sys.geom_bodyid[sphere]) == 0:
                raise UnsupportedSystemError("an explicit contact pair, or a sphere of the world")
            pairs.append((int(sphere), int(box)))
    if pairs:
        refuse_limits(sys)
    return pairs


def _material(sys: System, sphere: int, boxes: tuple[int, ...]) -> tuple[float, float]:
    """Friction, and 1 + elasticity, between a sphere and any of some boxes."""
    elasticity = np.asarray(sys.elasticity, np.float64)
    materials = {
        (combined_friction(sys, sphere, box), 1.0 + 0.5 * float(elasticity[[sphere, box]].sum()))
        for box in boxes
    }
    if len(materials) > 1:
        raise UnsupportedSystemError("boxes of one link that differ in friction or elasticity")
    return materials.pop()


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

    Counted of boxes that are larger by the radius, each in an upright one. Where some of these meet, the
    lowest corner of what they share has each of its coordinates from the lowest corner of one of them:
    it is enough to count there.
    """
    middle = np.array([box.centre for box in boxes])
    reach = np.array([np.abs(np.array(b.axes)).T @ (np.array(b.half) + radius) for b in boxes])
    low, high = middle - reach - 1e-6, middle + reach + 1e-6
    corners = np.meshgrid(*(np.unique(low[:, axis]) for axis in range(3)), indexing="ij")
    points = np.stack([c.ravel() for c in corners], -1)[:, None]
    return int(np.max(np.sum(np.all((points >= low) & (points <= high), -1), -1)))


def closest(point: Vector, boxes: tuple[Box, ...], most: int) -> Box:
    """One box for each point, `most` of them for each place: those that are nearest are among them.

    Args:
        point: in the boxes' frame, (most * places, batch), the places `most` times over.
        boxes: where they are.
        most: how many; all that are nearer than a distance are among them where they can be no more.
    """
    if len(boxes) == 1:
        return boxes[0]
    x, y, z = jax.lax.stop_gradient(point)
    count = x.shape[0] // most
    levels = []
    for box in boxes:
        beyond = _beyond((x[:count], y[:count], z[:count]), box)[1]
        levels.append(jnp.maximum(jnp.maximum(beyond[0], beyond[1]), beyond[2]))
    chosen = []
    for _ in range(most):
        lowest = functools.reduce(jnp.minimum, levels)
        found = jnp.zeros(lowest.shape, bool)
        numbers = [jnp.zeros_like(lowest)] * len(jax.tree.leaves(boxes[0]))
        for i, box in enumerate(boxes):
            here = (levels[i] == lowest) & ~found
            found = found | here
            levels[i] = jnp.where(here, jnp.inf, levels[i])
            mine = zip(jax.tree.leaves(box), numbers, strict=True)
            numbers = [jnp.where(here, value, old) for value, old in mine]
        chosen.append(numbers)
    structure = jax.tree.structure(boxes[0])
    same = [len(set(values)) == 1 for values in zip(*map(jax.tree.leaves, boxes), strict=True)]
    return jax.tree.unflatten(
        structure,
        [
            value if fixed else jnp.concatenate(parts)
            for fixed, value, *parts in zip(same, jax.tree.leaves(boxes[0]), *chosen, strict=True)
        ],
    )


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
    away = [
        jnp.where(side < 0.0, -1.0, 1.0)
        * jnp.where(inside, face.astype(length.dtype), shrink * out)
        for side, face, out in zip(local, faces, outside, strict=True)
    ]
    level = jnp.where(inside, jnp.maximum(jnp.maximum(x, y), z), length)
    return fence((level, apply_transposed(box.axes, (*away,))), one)
