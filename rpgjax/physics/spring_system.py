"""What the spring physics needs of a Brax ``System``, worked out once in numpy.

Joint frames, anchors, contact points, masses and limits do not depend on the state. Here they become
constant columns in a row order of our own: links of one joint kind lie together, so that one array
operation serves them all.
"""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from brax.base import Q_WIDTHS, QD_WIDTHS, System

from rpgjax.physics.actuators import Actuators, actuators
from rpgjax.physics.boxes import BoxContacts, box_contacts
from rpgjax.physics.components import (
    ZERO,
    Component,
    Quaternion,
    Vector,
    constant,
    constant_vector,
)
from rpgjax.physics.ground import (
    Contacts,
    Point,
    UnsupportedSystemError,
    contacts,
    ground_points,
    product,
    rotate,
)
from rpgjax.physics.spring_spin import Place, Spin, spin_of

Kind: TypeAlias = Literal["free", "hinge", "slide", "universal", "slide2", "ball", "planar"]
Limits: TypeAlias = tuple[Component, Component] | None


class Dof(NamedTuple):
    """One degree of freedom of every link in a group of joints."""

    index: tuple[int, ...]  # where it stands in Brax's ``qd``, one per link
    axis: Vector | None  # axis of a prismatic dof in the parent link's frame, None for a rotation
    limits: Limits  # lowest and highest coordinate, None where there is no finite limit


class Frames(NamedTuple):
    """Where joints are on their two links, and the links' mass properties, one row per link."""

    parent_axes: tuple[Vector, Vector, Vector]  # joint frame in the parent link's frame
    child_axes: tuple[Vector, Vector, Vector]  # the same frame in the child link's frame
    parity: Component  # handedness of the third rotation
    parent_anchor: Vector  # joint position seen from the parent's centre of mass
    parent_mirror: Vector  # the joint mirrored at the parent's origin, from its centre of mass
    parent_rotation: Quaternion  # of the joint in the parent link's frame
    child_anchor: Vector
    child_rotation: Quaternion
    origin: Vector  # link origin seen from the centre of mass
    mass: Component
    inertia_axes: tuple[Vector, Vector, Vector]  # principal axes in the link's frame
    inverse_inertia: Vector | None  # principal values; None where every one is 1


class Joints(NamedTuple):
    """Links with the same kind of joint to parents in the same group; rows in the order of ``links``."""

    kind: Kind
    links: tuple[int, ...]  # Brax's index of each
    parent: int | None  # group of the parents, None for the world
    parent_rows: tuple[int, ...] | None  # their rows in that group, None where each is its own row
    frames: Frames
    dofs: tuple[Dof, ...]
    stiffness: Component
    velocity_damping: Component
    angular_damping: Component
    limit_stiffness: Component
    contacts: Contacts | None
    spin: Spin | None  # that the contacts see


class Coordinates(NamedTuple):
    """Some of Brax's joint coordinates: the links they belong to and their places in ``q``, ``qd``."""

    links: tuple[int, ...]
    q: tuple[int, ...]
    qd: tuple[int, ...]
    axis: Vector = ZERO  # of prismatic coordinates, in the parent link's frame


class Layout(NamedTuple):
    """Brax's view of the links: every one in Brax's order."""

    place: tuple[int, ...]  # row of each link when the groups are concatenated
    parents: tuple[int, ...]  # the same of its parent; one past the last link is the world
    to_world: Component  # 1 for joints to the world, 0 else
    frames: Frames
    free: tuple[int, ...]  # links without a joint
    free_q: tuple[int, ...]  # places in q of their positions x, y, z and rotations w, x, y, z
    free_qd: tuple[int, ...]
    turns: tuple[Coordinates, Coordinates, Coordinates]  # first, second, third rotations
    slides: Coordinates


class SpringSystem(NamedTuple):
    """Constants of a Brax system for :mod:`rpgjax.physics.spring`."""

    joints: tuple[Joints, ...]  # parents before children
    boxes: tuple[BoxContacts, ...]
    slots: tuple[int, ...]  # how many contacts a link can have, by group
    layout: Layout
    gravity: Vector
    timestep: float
    velocity_decay: float
    angular_decay: float
    baumgarte: float  # erp / timestep
    actuators: Actuators
    dof_count: int


def _orthogonals(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    b = np.array([0.0, 1.0, 0.0]) if -0.5 < a[1] < 0.5 else np.array([0.0, 0.0, 1.0])
    b = b - a * (a @ b)
    b = b / np.linalg.norm(b)
    return b, np.cross(a, b)


def _frame(rotations: np.ndarray) -> np.ndarray:
    """Joint frame (3, 3) of rows of axes (dofs, 3), zero for a prismatic dof: Brax's choice of it."""
    turning = np.flatnonzero(rotations.any(1))
    if len(turning) == 0:
        return np.eye(3)
    if len(turning) == 1:
        axis = rotations[turning[0]]
        b, c = _orthogonals(axis)
        return np.roll(np.stack([axis, b, c]), turning[0], 0)
    return np.stack([*rotations[:2], np.cross(rotations[0], rotations[1])])


def _kind(link_type: str, rotations: np.ndarray, translations: np.ndarray) -> Kind:
    if link_type == "f":
        return "free"
    turns, slides = rotations.any(1), translations.any(1)
    if np.any(turns == slides):
        raise UnsupportedSystemError("a degree of freedom that neither only turns nor only slides")
    for axes in (rotations[turns], translations[slides]):
        if not np.allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-4):
            raise UnsupportedSystemError("a joint whose axes are not orthogonal")
    kinds: dict[tuple[int, int], Kind] = {
        (1, 0): "hinge",
        (0, 1): "slide",
        (2, 0): "universal",
        (0, 2): "slide2",
        (3, 0): "ball",
        (1, 2): "planar",
    }
    key = int(turns.sum()), int(slides.sum())
    if key not in kinds:
        raise UnsupportedSystemError(f"a joint with {key[0]} rotations and {key[1]} translations")
    return kinds[key]


def _quaternion(values: np.ndarray) -> Quaternion:
    w, x, y, z = (constant(values[:, i : i + 1]) for i in range(4))
    return w, x, y, z


class _Arrays(NamedTuple):
    """Leaves of a System as float64 numpy arrays, in Brax's order."""

    q_start: list[int]
    dof_start: list[int]
    rotations: np.ndarray
    translations: np.ndarray
    limits: np.ndarray | None
    centre: np.ndarray
    transform_pos: np.ndarray
    transform_rot: np.ndarray
    joint_pos: np.ndarray
    joint_rot: np.ndarray
    stiffness: np.ndarray
    velocity_damping: np.ndarray
    angular_damping: np.ndarray
    limit_stiffness: np.ndarray
    mass: np.ndarray
    inertia_rot: np.ndarray
    inverse_inertia: np.ndarray

    def dofs(self, link: int, link_type: str) -> np.ndarray:
        """Places in ``qd`` of a link's degrees of freedom."""
        return self.dof_start[link] + np.arange(QD_WIDTHS[link_type])


def _arrays(sys: System) -> _Arrays:
    link, dof = sys.link, sys.dof
    inertia = np.asarray(link.inertia.i, np.float64)
    q_start, dof_start = (
        [sum(widths[t] for t in sys.link_types[:i]) for i in range(len(sys.link_types))]
        for widths in (Q_WIDTHS, QD_WIDTHS)
    )
    leaves = (
        *(dof.motion.ang, dof.motion.vel),
        None if dof.limit is None else np.stack([np.asarray(x) for x in dof.limit]),
        *(link.inertia.transform.pos, link.transform.pos, link.transform.rot),
        *(link.joint.pos, link.joint.rot, link.constraint_stiffness, link.constraint_vel_damping),
        *(link.constraint_ang_damping, link.constraint_limit_stiffness),
        np.asarray(link.inertia.mass, np.float64) ** (1 - float(sys.spring_mass_scale)),
        link.inertia.transform.rot,
        np.diagonal(inertia, axis1=1, axis2=2) ** -(1.0 - float(sys.spring_inertia_scale)),
    )
    numbers = [None if x is None else np.asarray(x, np.float64) for x in leaves]
    return _Arrays(q_start, dof_start, *numbers)


def _frames(sys: System, array: _Arrays, links: list[int]) -> Frames:
    """Frames and mass properties of some links."""
    index = np.array(links)
    frames, parity = np.stack([np.eye(3)] * len(links)), np.ones((len(links), 1))
    for row, link in enumerate(links):
        if sys.link_types[link] != "f":
            rotations = array.rotations[array.dofs(link, sys.link_types[link])]
            frames[row] = _frame(rotations)
            if rotations.any(1).sum() == 3:
                parity[row] = np.linalg.det(rotations)
    parents = np.array([int(sys.link_parents[i]) for i in links])
    parent_centre = np.where(parents[:, None] < 0, 0.0, array.centre[parents])
    rotation = product(array.transform_rot[index], array.joint_rot[index])
    anchor = array.transform_pos[index] + rotate(array.transform_rot[index], array.joint_pos[index])
    inverse = array.inverse_inertia[index]

    def axes(by: np.ndarray, frame: np.ndarray) -> tuple[Vector, Vector, Vector]:
        x, y, z = (constant_vector(rotate(by, frame[:, i])) for i in range(3))
        return x, y, z

    return Frames(
        parent_axes=axes(rotation, frames),
        child_axes=axes(array.joint_rot[index], frames),
        parity=constant(parity),
        parent_anchor=constant_vector(anchor - parent_centre),
        parent_mirror=constant_vector(-anchor - parent_centre),
        parent_rotation=_quaternion(rotation),
        child_anchor=constant_vector(array.joint_pos[index] - array.centre[index]),
        child_rotation=_quaternion(array.joint_rot[index]),
        origin=constant_vector(-array.centre[index]),
        mass=constant(array.mass[index][:, None]),
        inertia_axes=axes(array.inertia_rot[index], np.stack([np.eye(3)] * len(links))),
        inverse_inertia=None if np.all(inverse == 1.0) else constant_vector(inverse),
    )


def _joints(
    sys: System,
    array: _Arrays,
    kind: Kind,
    links: list[int],
    place: Place,
    points: list[Point],
) -> Joints:
    """Constants of one group of links; ``place`` is the group and row of every link."""
    index = np.array(links)
    dofs = np.array([array.dofs(i, sys.link_types[i]) for i in links])
    translations = array.translations[dofs]  # (links, dofs, 3)
    frames = _frames(sys, array, links)
    parents = [int(sys.link_parents[i]) for i in links]
    parent = None if parents[0] < 0 else place[parents[0]][0]
    rows = [] if parent is None else [place[p][1] for p in parents]
    parent_count = sum(group == parent for group, _ in place.values())
    aligned = parent is None or rows == list(range(parent_count)) or parent_count == 1
    rotation = product(array.transform_rot[index], array.joint_rot[index])

    def limits(dof: np.ndarray) -> Limits:
        if array.limits is None or kind == "free" or not np.isfinite(array.limits[:, dof]).any():
            return None
        return constant(array.limits[0, dof][:, None]), constant(array.limits[1, dof][:, None])

    def dof(i: int) -> Dof:
        slides = kind != "free" and bool(translations[:, i].any())
        axis = constant_vector(rotate(rotation, translations[:, i])) if slides else None
        return Dof(tuple(dofs[:, i].tolist()), axis, limits(dofs[:, i]))

    def column(values: np.ndarray) -> Component:
        return constant(values[index][:, None])

    touching = contacts(points, links)
    spin = None
    if touching is not None:
        seen = links if touching.rows is None else [links[row] for row in touching.rows]
        spin = spin_of(array.inverse_inertia, seen, place)
    return Joints(
        kind=kind,
        links=tuple(links),
        parent=parent,
        parent_rows=None if aligned else tuple(rows),
        frames=frames,
        dofs=tuple(dof(i) for i in range(dofs.shape[1])),
        stiffness=column(array.stiffness),
        velocity_damping=column(array.velocity_damping),
        angular_damping=column(array.angular_damping),
        limit_stiffness=column(array.limit_stiffness),
        contacts=touching,
        spin=spin,
    )


def _layout(sys: System, array: _Arrays, groups: list[tuple[Kind, list[int]]]) -> Layout:
    """Brax's order of links and coordinates."""
    types, count = sys.link_types, len(sys.link_types)
    order = [link for _, links in groups for link in links]
    place = tuple(order.index(link) for link in range(count))
    free = tuple(i for i, t in enumerate(types) if t == "f")
    to_world = [[float(p < 0 and t != "f")] for p, t in zip(sys.link_parents, types, strict=True)]
    rotation = product(array.transform_rot, array.joint_rot)
    turns: list[list[tuple[int, int, int]]] = [[], [], []]
    slides: list[tuple[int, int, int]] = []
    for link, link_type in enumerate(types):
        if link_type != "f":
            for i, dof in enumerate(array.dofs(link, link_type).tolist()):
                entry = link, array.q_start[link] + i, dof
                (slides if array.translations[dof].any() else turns[i]).append(entry)

    def coordinates(entries: list[tuple[int, int, int]], axis: Vector = ZERO) -> Coordinates:
        links, q, qd = zip(*entries, strict=True) if entries else ((), (), ())
        return Coordinates(links, q, qd, axis)

    axis = ZERO
    if slides:
        along = [rotate(rotation[link], array.translations[dof]) for link, _, dof in slides]
        axis = constant_vector(np.stack(along))
    first, second, third = (coordinates(entries) for entries in turns)
    return Layout(
        place=place,
        parents=tuple(place[p] if p >= 0 else count for p in map(int, sys.link_parents)),
        to_world=constant(np.array(to_world)),
        frames=_frames(sys, array, list(range(count))),
        free=free,
        free_q=tuple(array.q_start[i] + k for k in range(7) for i in free),
        free_qd=tuple(array.dof_start[i] + k for k in range(6) for i in free),
        turns=(first, second, third),
        slides=coordinates(slides, axis),
    )


def _groups(sys: System, array: _Arrays) -> list[tuple[Kind, list[int]]]:
    """Groups links by joint kind and by the group of their parents, parents first."""
    keys: list[tuple[Kind, int]] = []
    groups: list[list[int]] = []
    group_of: dict[int, int] = {-1: -1}
    for i, (link_type, parent) in enumerate(zip(sys.link_types, sys.link_parents, strict=True)):
        dofs = array.dofs(i, link_type)
        kind = _kind(link_type, array.rotations[dofs], array.translations[dofs])
        key = kind, group_of[int(parent)]
        if key not in keys:
            keys.append(key)
            groups.append([])
        group_of[i] = keys.index(key)
        groups[group_of[i]].append(i)
    return [(kind, links) for (kind, _), links in zip(keys, groups, strict=True)]


def _slots(joints: list[Joints], boxes: tuple[BoxContacts, ...]) -> tuple[int, ...]:
    """How many contacts a link can have, by group."""
    starts = np.cumsum([0, *(len(one.links) for one in joints)])
    of_link = np.zeros(starts[-1], int)
    for one in boxes:
        np.add.at(of_link, list(one.rows), 1)
        if one.link is not None:
            of_link[one.link] += len(one.rows)
    on_ground = [0 if one.contacts is None else one.contacts.slots for one in joints]
    return tuple(
        ground + int(of_link[start:stop].max())
        for ground, start, stop in zip(on_ground, starts[:-1], starts[1:], strict=True)
    )


def spring_system(sys: System) -> SpringSystem:
    """Works out the constants of a Brax system.

    Args:
        sys: a Brax system, as its environment configures it for the spring backend.

    Raises:
        UnsupportedSystemError: the system has something that the fast path does not know.
    """
    if sys.enable_fluid:
        raise UnsupportedSystemError("fluid forces")
    array = _arrays(sys)
    points = ground_points(sys, array.centre, boxes=True)
    groups = _groups(sys, array)
    place = {
        link: (group, row)
        for group, (_, links) in enumerate(groups)
        for row, link in enumerate(links)
    }
    joints = [_joints(sys, array, kind, links, place, points) for kind, links in groups]
    boxes = box_contacts(sys, array.centre, array.mass, array.inverse_inertia, place)
    timestep = float(sys.opt.timestep)
    return SpringSystem(
        joints=tuple(joints),
        boxes=boxes,
        slots=_slots(joints, boxes),
        layout=_layout(sys, array, groups),
        gravity=constant_vector(np.asarray(sys.gravity)[None]),
        timestep=timestep,
        velocity_decay=float(np.exp(float(sys.vel_damping) * timestep)),
        angular_decay=float(np.exp(float(sys.ang_damping) * timestep)),
        baumgarte=float(sys.baumgarte_erp) / timestep,
        actuators=actuators(sys),
        dof_count=sys.qd_size(),
    )
