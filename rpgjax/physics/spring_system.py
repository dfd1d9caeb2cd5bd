"""What the spring physics needs of a Brax ``System``, worked out once in numpy.

Joint frames, anchors, contact points, masses and limits do not depend on the state. Here they become
constant columns in a row order of our own: links of one joint kind lie together, so that one array
operation serves them all.
"""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from brax.base import Q_WIDTHS, QD_WIDTHS, System
from mujoco import mjtGeom
from mujoco.mjx._src.collision_driver import geom_pairs

from rpgjax.physics.components import Component, Quaternion, Vector, constant, constant_vector

Kind: TypeAlias = Literal["free", "hinge", "slide", "universal", "slide2", "ball", "planar"]
Limits: TypeAlias = tuple[Component, Component] | None


class UnsupportedSystemError(ValueError):
    """The fast spring physics does not know how to step this system; the message says why."""


class Dof(NamedTuple):
    """One degree of freedom of every link in a group of joints."""

    index: tuple[int, ...]  # where it stands in Brax's ``qd``, one per link
    axis: Vector | None  # axis of a prismatic dof in the parent link's frame, None for a rotation
    limits: Limits  # lowest and highest coordinate, None where there is no finite limit


class Joints(NamedTuple):
    """Links with the same kind of joint to parents in the same group; rows in the order of ``links``."""

    kind: Kind
    links: tuple[int, ...]  # Brax's index of each
    parent: int | None  # group of the parents, None for the world
    parent_rows: tuple[int, ...] | None  # their rows in that group, None where each is its own row
    parent_axes: tuple[Vector, Vector, Vector]  # joint frame in the parent link's frame
    child_axes: tuple[Vector, Vector, Vector]  # the same frame in the child link's frame
    parity: Component  # handedness of the third rotation
    parent_anchor: Vector  # joint position seen from the parent's centre of mass
    parent_mirror: Vector  # the joint mirrored at the parent's origin, from its centre of mass
    parent_rotation: Quaternion  # quaternion of the joint in the parent link's frame
    child_anchor: Vector
    child_rotation: Quaternion
    coordinates: tuple[tuple[int, ...], ...]  # where each of its coordinates stands in Brax's ``q``
    dofs: tuple[Dof, ...]
    stiffness: Component
    velocity_damping: Component
    angular_damping: Component
    limit_stiffness: Component
    origin: Vector  # link origin seen from the centre of mass
    mass: Component
    inertia_axes: tuple[Vector, Vector, Vector]  # principal axes in the link's frame
    inverse_inertia: Vector | None  # principal values; None where every one is 1
    contacts: "Contacts | None"


class Contacts(NamedTuple):
    """Spheres at fixed places on the links of a group, each against a fixed plane.

    A capsule is two spheres. Columns are (slots, rows, 1), with as many slots as any link has spheres.
    """

    rows: tuple[int, ...] | None  # rows of the group that have contacts, None for all
    slots: int
    exists: np.ndarray | None  # (slots, rows, 1), None where every slot of every link is used
    spin: "Spin"
    centre: Vector  # seen from the link's centre of mass
    radius: Component
    normal: Vector
    height: Component  # of the plane, along its normal
    friction: Component
    restitution: Component  # 1 + elasticity


class Spin(NamedTuple):
    """The inverse inertia that Brax's contacts see: one scalar per contact.

    Brax indexes the flattened ``(links, 3, 3)`` array with the link's index, so a contact of link ``k``
    sees entry ``k % 9`` of link ``k // 9``. Kept, because a task's behaviour depends on it.
    """

    constant: Component | None  # where every principal inertia is 1
    entries: tuple[tuple[int, int, int, int, np.ndarray], ...]  # group, row, i, j, who sees it


class SpringSystem(NamedTuple):
    """Constants of a Brax system for :mod:`rpgjax.physics.spring`."""

    joints: tuple[Joints, ...]  # parents before children
    gravity: Vector
    timestep: float
    velocity_decay: float
    angular_decay: float
    baumgarte: float  # erp / timestep
    actuators: tuple[
        np.ndarray, ...
    ]  # dof index, control low and high, force low and high, gain, gear
    dof_count: int


def _rotate(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    s, u = q[..., :1], q[..., 1:]
    uv, uu = np.sum(u * v, -1, keepdims=True), np.sum(u * u, -1, keepdims=True)
    return 2 * uv * u + (s * s - uu) * v + 2 * s * np.cross(u, v)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    w = a[..., :1] * b[..., :1] - np.sum(a[..., 1:] * b[..., 1:], -1, keepdims=True)
    v = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:] + np.cross(a[..., 1:], b[..., 1:])
    return np.concatenate([w, v], -1)


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


class _Point(NamedTuple):
    """A sphere on a link against a plane of the world."""

    link: int
    centre: np.ndarray  # seen from the link's centre of mass
    radius: float
    normal: np.ndarray
    height: float
    friction: float
    restitution: float


def _points(sys: System, array: _Arrays) -> list[_Point]:
    sphere, capsule, plane_type = (
        int(mjtGeom.mjGEOM_SPHERE),
        int(mjtGeom.mjGEOM_CAPSULE),
        int(mjtGeom.mjGEOM_PLANE),
    )
    position, rotation, size = (
        np.asarray(x, np.float64) for x in (sys.geom_pos, sys.geom_quat, sys.geom_size)
    )
    rotation = rotation / np.linalg.norm(rotation, axis=-1, keepdims=True)
    friction, elasticity = np.asarray(sys.geom_friction), np.asarray(sys.elasticity)
    up = np.array([0.0, 0.0, 1.0])
    points = []
    for plane, geom, pair in geom_pairs(sys):
        types = int(sys.geom_type[plane]), int(sys.geom_type[geom])
        link, ground = int(sys.geom_bodyid[geom]) - 1, int(sys.geom_bodyid[plane]) - 1
        if types[0] != plane_type or types[1] not in (sphere, capsule) or ground != -1:
            raise UnsupportedSystemError(f"a contact between geometry types {types}")
        if pair != -1 or link == -1:
            raise UnsupportedSystemError("an explicit contact pair, or a contact within the world")
        rank = int(sys.geom_priority[plane]) - int(sys.geom_priority[geom])
        pair_friction = friction[[plane, geom], 0]
        slip = pair_friction.max() if rank == 0 else pair_friction[0 if rank > 0 else 1]
        normal = _rotate(rotation[plane], up)
        axis = _rotate(rotation[geom], up) * size[geom, 1]
        for offset in (axis, -axis) if types[1] == capsule else (0.0 * axis,):
            point = _Point(
                link=link,
                centre=position[geom] + offset - array.centre[link],
                radius=float(size[geom, 0]),
                normal=normal,
                height=float(position[plane] @ normal),
                friction=float(slip),
                restitution=1.0 + 0.5 * float(elasticity[plane] + elasticity[geom]),
            )
            points.append(point)
    return points


def _spin(inverse: np.ndarray, links: list[int], place: dict[int, tuple[int, int]]) -> Spin:
    """What the contacts of these links see of the links' inverse inertia."""
    entries = [(link // 9, *divmod(link % 9, 3)) for link in links]
    if np.all(inverse == 1.0):
        seen = np.array([float(i == j) for _, i, j in entries])[:, None]
        return Spin(constant(seen), ())
    return Spin(
        None,
        tuple(
            (*place[source], i, j, np.array([[float(e == (source, i, j))] for e in entries]))
            for source, i, j in sorted(set(entries))
        ),
    )


def _contacts(
    points: list[_Point],
    links: list[int],
    inverse: np.ndarray,
    place: dict[int, tuple[int, int]],
) -> Contacts | None:
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
        spin=_spin(inverse, [links[row] for row in rows], place),
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


def _joints(
    sys: System,
    array: _Arrays,
    kind: Kind,
    links: list[int],
    place: dict[int, tuple[int, int]],
    points: list[_Point],
) -> Joints:
    """Constants of one group of links; ``place`` is the group and row of every link."""
    index = np.array(links)
    dofs = np.array([array.dof_start[i] + np.arange(QD_WIDTHS[sys.link_types[i]]) for i in links])
    rotations, translations = array.rotations[dofs], array.translations[dofs]  # (links, dofs, 3)
    frames = np.stack([np.eye(3) if kind == "free" else _frame(r) for r in rotations])
    parity = np.linalg.det(rotations)[:, None] if kind == "ball" else np.ones((len(links), 1))
    parents = np.array([sys.link_parents[i] for i in links])
    is_root = parents[0] < 0
    parent_centre = np.zeros((len(links), 3)) if is_root else array.centre[parents]
    parent = None if is_root else place[int(parents[0])][0]
    rows = [] if is_root else [place[int(p)][1] for p in parents]
    siblings = sum(group == parent for group, _ in place.values())
    aligned = is_root or rows == list(range(siblings)) or siblings == 1
    rotation = _product(array.transform_rot[index], array.joint_rot[index])
    anchor = array.transform_pos[index] + _rotate(
        array.transform_rot[index], array.joint_pos[index]
    )
    inverse = array.inverse_inertia[index]

    def limits(dof: np.ndarray) -> Limits:
        if array.limits is None or kind == "free" or not np.isfinite(array.limits[:, dof]).any():
            return None
        return constant(array.limits[0, dof][:, None]), constant(array.limits[1, dof][:, None])

    def axes(by: np.ndarray, frame: np.ndarray) -> tuple[Vector, Vector, Vector]:
        x, y, z = (constant_vector(_rotate(by, frame[:, i])) for i in range(3))
        return x, y, z

    def dof(i: int) -> Dof:
        slides = kind != "free" and bool(translations[:, i].any())
        axis = constant_vector(_rotate(rotation, translations[:, i])) if slides else None
        return Dof(tuple(dofs[:, i].tolist()), axis, limits(dofs[:, i]))

    def column(values: np.ndarray) -> Component:
        return constant(values[index][:, None])

    return Joints(
        kind=kind,
        links=tuple(links),
        parent=parent,
        parent_rows=None if aligned else tuple(rows),
        parent_axes=axes(rotation, frames),
        child_axes=axes(array.joint_rot[index], frames),
        parity=constant(parity),
        parent_anchor=constant_vector(anchor - parent_centre),
        parent_mirror=constant_vector(-anchor - parent_centre),
        parent_rotation=_quaternion(rotation),
        child_anchor=constant_vector(array.joint_pos[index] - array.centre[index]),
        child_rotation=_quaternion(array.joint_rot[index]),
        coordinates=tuple(
            tuple(array.q_start[link] + i for link in links)
            for i in range(Q_WIDTHS[sys.link_types[links[0]]])
        ),
        dofs=tuple(dof(i) for i in range(dofs.shape[1])),
        stiffness=column(array.stiffness),
        velocity_damping=column(array.velocity_damping),
        angular_damping=column(array.angular_damping),
        limit_stiffness=column(array.limit_stiffness),
        origin=constant_vector(-array.centre[index]),
        mass=column(array.mass),
        inertia_axes=axes(array.inertia_rot[index], np.stack([np.eye(3)] * len(links))),
        inverse_inertia=None if np.all(inverse == 1.0) else constant_vector(inverse),
        contacts=_contacts(points, links, array.inverse_inertia, place),
    )


def _groups(sys: System, array: _Arrays) -> list[tuple[Kind, list[int]]]:
    """Groups links by joint kind and by the group of their parents, parents first."""
    keys: list[tuple[Kind, int]] = []
    groups: list[list[int]] = []
    group_of: dict[int, int] = {-1: -1}
    for i, (link_type, parent) in enumerate(zip(sys.link_types, sys.link_parents, strict=True)):
        dofs = slice(array.dof_start[i], array.dof_start[i] + QD_WIDTHS[link_type])
        kind = _kind(link_type, array.rotations[dofs], array.translations[dofs])
        key = kind, group_of[int(parent)]
        if key not in keys:
            keys.append(key)
            groups.append([])
        group_of[i] = keys.index(key)
        groups[group_of[i]].append(i)
    return [(kind, links) for (kind, _), links in zip(keys, groups, strict=True)]


def spring_system(sys: System) -> SpringSystem:
    """Works out the constants of a Brax system.

    Args:
        sys: a Brax system, as its environment configures it for the spring backend.

    Raises:
        UnsupportedSystemError: the system has something that the fast path does not know.
    """
    if sys.enable_fluid:
        raise UnsupportedSystemError("fluid forces")
    if sys.act_size() and np.any(
        [np.asarray(sys.actuator.bias_q), np.asarray(sys.actuator.bias_qd)]
    ):
        raise UnsupportedSystemError("position or velocity actuators")
    array = _arrays(sys)
    points = _points(sys, array)
    model = sys.mj_model
    numeric = {model.numeric(i).name for i in range(model.nnumeric)} if model else set()
    if points and numeric & {"max_contact_points", "max_geom_pairs"}:
        raise UnsupportedSystemError("a limit on the number of contacts")
    groups = _groups(sys, array)
    place = {
        link: (group, row)
        for group, (_, links) in enumerate(groups)
        for row, link in enumerate(links)
    }
    joints = [_joints(sys, array, kind, links, place, points) for kind, links in groups]
    timestep = float(sys.opt.timestep)
    actuators = ()
    if sys.act_size():
        acts = sys.actuator
        ranges = (*np.asarray(acts.ctrl_range).T, *np.asarray(acts.force_range).T)
        actuators = (np.asarray(acts.qd_id), *ranges, np.asarray(acts.gain), np.asarray(acts.gear))
    return SpringSystem(
        joints=tuple(joints),
        gravity=constant_vector(np.asarray(sys.gravity)[None]),
        timestep=timestep,
        velocity_decay=float(np.exp(float(sys.vel_damping) * timestep)),
        angular_decay=float(np.exp(float(sys.ang_damping) * timestep)),
        baumgarte=float(sys.baumgarte_erp) / timestep,
        actuators=actuators,
        dof_count=sys.qd_size(),
    )
