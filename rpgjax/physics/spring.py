"""Brax's spring physics, written for arrays whose last axis is the batch.

Same semantics as ``brax.spring.pipeline.step`` (joints as springs in maximal coordinates, contacts as
velocity impulses with Baumgarte stabilization, semi-implicit Euler), arranged so that XLA can vectorise
and differentiate it cheaply:

- the state is four blocks, ``(component, link, batch)``: centre-of-mass position, rotation, velocity
  and angular velocity of every link. All other fields of Brax's state follow from these.
- joint forces are evaluated in the world frame: springs and dampers are isotropic, so most of Brax's
  rotations into the joint frame and back cancel.
- a contact is a sphere at a constant place on its link against a constant plane; a capsule is two.

Rotations are assumed to be unit quaternions, which the integrator guarantees.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.physics.components import (
    ZERO,
    Component,
    Matrix,
    Quaternion,
    Vector,
    add,
    apply,
    apply_transposed,
    conjugate,
    constant,
    cross,
    dot,
    fence,
    minus,
    mul,
    plus,
    quaternion_product,
    rotation,
    safe_length,
    scale,
    sub,
)
from rpgjax.physics.rows import accumulate, take
from rpgjax.physics.spring_system import Contacts, Dof, Joints, Spin, SpringSystem

IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class Bodies(NamedTuple):
    """Dynamic state of a group of links, components (links, batch); constants for the world."""

    position: Vector  # centre of mass, world frame
    rotation: Quaternion  # unit quaternion
    velocity: Vector  # of the centre of mass
    angular: Vector  # angular velocity, world frame


Links: TypeAlias = tuple[Bodies, ...]
"""State of a whole system: one entry per group, in the order of ``SpringSystem.joints``."""


Drive: TypeAlias = tuple[tuple[Component, ...], ...]
"""Joint forces by group and degree of freedom."""


class Packed(NamedTuple):
    """The dynamic part of Brax's spring state, links in Brax's order."""

    position: jax.Array  # (links, 3, batch)
    rotation: jax.Array  # (links, 4, batch)
    velocity: jax.Array  # (links, 3, batch)
    angular: jax.Array  # (links, 3, batch)


class _Joint(NamedTuple):
    """Relative placement and motion at a group of joints, in the world frame."""

    parent: Bodies
    child: Bodies
    parent_matrix: Matrix
    child_matrix: Matrix
    parent_arm: Vector  # from the parent's centre of mass to the joint
    child_arm: Vector
    offset: Vector  # child anchor minus parent anchor
    velocity: Vector  # of the child's origin relative to the parent's anchor
    angular: Vector
    parent_axes: tuple[Vector, Vector, Vector]
    child_axes: tuple[Vector, Vector, Vector]


WORLD = Bodies(ZERO, (1.0, 0.0, 0.0, 0.0), ZERO, ZERO)


def _stack(components: Sequence[Component], like: Component) -> jax.Array:
    """Stacks components to ``(component, rows, batch)``, the shape of ``like`` behind the first axis."""
    like = jnp.asarray(like)
    return jnp.stack([jnp.broadcast_to(jnp.asarray(c, like.dtype), like.shape) for c in components])


def _matrices(links: Links, one: Component) -> list[Matrix]:
    return [fence(rotation(group.rotation), one) for group in links]


def _parent(joints: Joints, links: Links, matrices: list[Matrix]) -> tuple[Bodies, Matrix]:
    """Parents of a group of links; one row where all have the same parent."""
    if joints.parent is None:
        return WORLD, IDENTITY
    parent, matrix = links[joints.parent], matrices[joints.parent]
    if joints.parent_rows is None:
        return parent, matrix
    rows = joints.parent_rows
    return jax.tree.map(lambda x: take(x, rows), (parent, matrix))


def _joint(
    joints: Joints, group: int, links: Links, matrices: list[Matrix], one: Component = 1.0
) -> _Joint:
    child, matrix = links[group], matrices[group]
    parent, parent_matrix = _parent(joints, links, matrices)
    parent_arm = apply(parent_matrix, joints.parent_anchor)
    child_arm = apply(matrix, joints.child_anchor)
    # Brax compares the velocity of the child's origin, not of its anchor, with that of the parent's
    # anchor mirrored at the parent's origin. The quirk is part of the tasks, so it is kept.
    moved = plus(child.velocity, cross(child.angular, apply(matrix, joints.origin)))
    mirrored = apply(parent_matrix, joints.parent_mirror)
    anchored = plus(parent.velocity, cross(parent.angular, mirrored))
    x, y, z = (apply(parent_matrix, axis) for axis in joints.parent_axes)
    u, v, w = (apply(matrix, axis) for axis in joints.child_axes)
    joint = _Joint(
        parent=parent,
        child=child,
        parent_matrix=parent_matrix,
        child_matrix=matrix,
        parent_arm=parent_arm,
        child_arm=child_arm,
        offset=minus(plus(child.position, child_arm), plus(parent.position, parent_arm)),
        velocity=minus(moved, anchored),
        angular=minus(child.angular, parent.angular),
        parent_axes=(x, y, z),
        child_axes=(u, v, w),
    )
    return fence(joint, one)


def _angle(joint: _Joint, parity: Component, i: int) -> Component:
    """The i-th intrinsic x-y'-z'' Euler angle of a joint.

    Brax builds them from the line of nodes and an arc cosine; the arc tangents here are the same
    functions, without its clipped derivative where the second angle is within 5e-4 of zero.
    """
    f, c = joint.parent_axes, joint.child_axes
    if i == 0:
        return jnp.arctan2(*_arrays(mul(-1.0, dot(f[1], c[2])), dot(f[2], c[2])))
    along, across = dot(f[0], c[0]), dot(f[0], c[1])
    if i == 1:
        length = jnp.sqrt(jnp.asarray(add(mul(along, along), mul(across, across))))
        return jnp.arctan2(*_arrays(dot(f[0], c[2]), length))
    return jnp.arctan2(*_arrays(mul(mul(-1.0, parity), across), along))


def _arrays(*components: Component) -> list[jax.Array]:
    return [jnp.asarray(c) for c in components]


def _excess(coordinate: Component, dof: Dof) -> Component:
    """How far a coordinate is outside of its limits; 0 within them."""
    if dof.limits is None:
        return 0.0
    x = jnp.asarray(coordinate)
    low, high = (jnp.asarray(c, x.dtype) for c in dof.limits)
    return jnp.where(x > high, x - high, jnp.where(x < low, x - low, 0.0))


def _turn_axis(joints: Joints, joint: _Joint, i: int) -> Vector:
    """Axis about which the i-th rotational dof drives."""
    if i == 0:
        return joint.parent_axes[0]
    return joint.child_axes[1] if i == 1 else scale(joints.parity, joint.child_axes[2])


def _alignments(joints: Joints) -> list[tuple[Component, int]]:
    """Stiffness and index of each joint axis which parent and child are to share."""
    k, limit = joints.stiffness, joints.limit_stiffness
    if joints.kind == "hinge":
        return [(k, 0)]
    if joints.kind == "slide":
        return [(k, 0), (k, 1)]
    if joints.kind == "slide2":
        return [(limit, 1), (k, 2)]
    if joints.kind == "planar":
        return [(k, next(i for i, dof in enumerate(joints.dofs) if dof.axis is None))]
    return []


def _joint_force(joints: Joints, joint: _Joint, tau: Sequence[Component]) -> tuple[Vector, Vector]:
    """Force and torque on the child at its anchor, in the world frame."""
    force = minus(
        scale(mul(-1.0, joints.stiffness), joint.offset),
        scale(joints.velocity_damping, joint.velocity),
    )
    torque = scale(mul(-1.0, joints.angular_damping), joint.angular)
    spring, free_force = joints.limit_stiffness, force
    for i, (dof, drive) in enumerate(zip(joints.dofs, tau, strict=True)):
        if dof.axis is not None:
            axis = apply(joint.parent_matrix, dof.axis)
            past = _excess(dot(joint.offset, axis), dof)
            along = sub(sub(drive, mul(spring, past)), dot(free_force, axis))
            force = plus(force, scale(along, axis))
        else:
            past = 0.0 if dof.limits is None else _excess(_angle(joint, joints.parity, i), dof)
            along = sub(drive, mul(spring, past))
            torque = plus(torque, scale(along, _turn_axis(joints, joint, i)))
    for stiffness, i in _alignments(joints):
        turned = cross(joint.parent_axes[i], joint.child_axes[i])
        torque = minus(torque, scale(stiffness, turned))
    if joints.kind == "universal":
        # The second axis is drawn to the plane across the first, with Brax's limit stiffness.
        first, second = joint.parent_axes[0], joint.child_axes[1]
        turned = cross(first, second)
        length = safe_length(turned)
        lean = jnp.asarray(dot(first, second)) / (length + 1e-30)
        torque = plus(torque, scale(mul(spring, lean), turned))
    return force, torque


def _react(joints: Joints, on_parent: Vector, like: Component) -> Vector:
    """Sums what a group of joints does to its parents, by row of the parents' group."""
    rows = jnp.asarray(like).shape[0]
    if joints.parent_rows is not None:
        x, y, z = (accumulate(jnp.asarray(c), joints.parent_rows, rows) for c in on_parent)
    elif rows == 1 and len(joints.links) > 1:
        x, y, z = (jnp.sum(jnp.asarray(c), axis=0, keepdims=True) for c in on_parent)
    else:
        return on_parent
    return x, y, z


def _forces(
    system: SpringSystem, links: Links, matrices: list[Matrix], tau: Drive, one: Component
) -> list[tuple[Vector, Vector]]:
    """Force and torque on every centre of mass, by group."""
    result = [(ZERO, ZERO)] * len(links)
    for group, joints in enumerate(system.joints):
        if joints.kind == "free":
            continue
        joint = _joint(joints, group, links, matrices, one)
        force, torque = fence(_joint_force(joints, joint, tau[group]), one)
        mine = result[group]
        arm = plus(torque, cross(joint.child_arm, force))
        result[group] = plus(mine[0], force), plus(mine[1], arm)
        if joints.parent is None:
            continue
        like = links[joints.parent].position[0]
        arm = plus(torque, cross(joint.parent_arm, force))
        theirs = result[joints.parent]
        result[joints.parent] = (
            minus(theirs[0], _react(joints, force, like)),
            minus(theirs[1], _react(joints, arm, like)),
        )
    return fence(result, one)


def _accelerate(joints: Joints, matrix: Matrix, torque: Vector) -> Vector:
    """Inverse inertia times torque, in the world frame."""
    if joints.inverse_inertia is None:
        return torque
    axes = [apply(matrix, axis) for axis in joints.inertia_axes]
    result = ZERO
    for axis, inverse in zip(axes, joints.inverse_inertia, strict=True):
        result = plus(result, scale(mul(inverse, dot(axis, torque)), axis))
    return result


def _inertia_entries(joints: Joints, matrix: Matrix) -> list[list[Component]]:
    """Inverse inertia in the world frame, three rows of three."""
    if joints.inverse_inertia is None:
        return [list(row) for row in IDENTITY]
    axes = [apply(matrix, axis) for axis in joints.inertia_axes]
    weighted = [scale(k, a) for k, a in zip(joints.inverse_inertia, axes, strict=True)]
    columns = [[axis[i] for axis in axes] for i in range(3)]
    return [[dot(columns[i], [w[j] for w in weighted]) for j in range(3)] for i in range(3)]


def _contact_spin(system: SpringSystem, spin: Spin, matrices: list[Matrix]) -> Component:
    if spin.constant is not None:
        return spin.constant
    result: Component = 0.0
    for group, row, i, j, who in spin.entries:
        entry = _inertia_entries(system.joints[group], matrices[group])[i][j]
        result = add(result, mul(constant(who), jnp.asarray(entry)[row : row + 1]))
    return result


def _contact_impulses(
    contacts: Contacts,
    spin: Component,
    inverse_mass: Component,
    bodies: Bodies,
    matrix: Matrix,
    baumgarte: float,
) -> tuple[Vector, Vector]:
    """Impulse and angular impulse on a group of links, averaged over the contacts of each.

    Args:
        contacts: constants of the contacts.
        spin: what the contacts see of the inverse inertia.
        inverse_mass: of the links.
        bodies: links as they stand, with the velocities after this substep's joint forces.
        matrix: rotation matrices of the links.
        baumgarte: speed per metre of penetration at which bodies are pushed apart.
    """
    rows, count = contacts.rows, jnp.asarray(bodies.position[0]).shape[0]
    if rows is not None:
        bodies, matrix = jax.tree.map(lambda x: take(x, rows), (bodies, matrix))
        spin, inverse_mass = (
            c[list(rows)] if isinstance(c, np.ndarray) and len(c) == count else c
            for c in (spin, inverse_mass)
        )
    if contacts.slots > 1:
        bodies, matrix, spin, inverse_mass = jax.tree.map(
            lambda c: c if isinstance(c, float) else c[None], (bodies, matrix, spin, inverse_mass)
        )
    n = contacts.normal
    centre = apply(matrix, contacts.centre)
    level = sub(dot(plus(bodies.position, centre), n), contacts.height)
    distance = jnp.asarray(sub(level, contacts.radius))
    arm = minus(centre, scale(add(contacts.radius, 0.5 * distance), n))
    velocity = plus(bodies.velocity, cross(bodies.angular, arm))
    approach = jnp.asarray(dot(velocity, n))

    lever = cross(arm, n)
    push = -mul(contacts.restitution, approach) - mul(baumgarte, distance)
    push = push / add(inverse_mass, mul(spin, dot(lever, lever)))

    slip = minus(velocity, scale(approach, n))
    speed = safe_length(slip)
    direction = scale(-1.0 / (1e-6 + speed), slip)
    lever = cross(arm, direction)
    drag = speed / add(inverse_mass, mul(spin, dot(lever, lever)))
    drag = jnp.minimum(drag, mul(contacts.friction, push))

    touching = (distance < 0.0) & (approach < 0.0) & (push > 0.0)
    if contacts.exists is not None:
        touching = touching & (contacts.exists > 0.0)
    push = jnp.where(touching, push, 0.0)
    drag = jnp.where(touching & (speed > 1e-3), drag, 0.0)
    impulse = plus(scale(push, n), scale(drag, direction))
    result = impulse, cross(arm, impulse)
    if contacts.slots > 1:
        touches = jnp.maximum(jnp.sum(touching.astype(distance.dtype), axis=0), 1.0)
        result = jax.tree.map(lambda c: jnp.sum(c, axis=0) / touches, result)
    if rows is not None:
        result = jax.tree.map(lambda c: accumulate(jnp.asarray(c), rows, count), result)
    return result


def substep(system: SpringSystem, links: Links, tau: Drive, one: Component = 1.0) -> Links:
    """One physics step of ``system.timestep`` seconds.

    Args:
        system: constants.
        links: state of the links.
        tau: joint forces and torques, from :func:`drive`.
        one: the number 1 where XLA is to keep shared values, see :func:`components.fence`.

    Returns:
        The state after the step.
    """
    dt = system.timestep
    matrices = _matrices(links, one)
    forces = _forces(system, links, matrices, tau, one)
    result = []
    for joints, body, matrix, (force, torque) in zip(
        system.joints, links, matrices, forces, strict=True
    ):
        inverse_mass = 1.0 / joints.mass
        pull = plus(scale(inverse_mass, force), system.gravity)
        velocity = plus(body.velocity, scale(dt, pull))
        angular = plus(body.angular, scale(dt, _accelerate(joints, matrix, torque)))
        kick, twist = ZERO, ZERO
        if joints.contacts is not None:
            spin = _contact_spin(system, joints.contacts.spin, matrices)
            moving = body._replace(velocity=velocity, angular=angular)
            impulse, lever = _contact_impulses(
                joints.contacts, spin, inverse_mass, moving, matrix, system.baumgarte
            )
            impulse, lever = fence((impulse, lever), one)
            kick, twist = scale(inverse_mass, impulse), _accelerate(joints, matrix, lever)
        velocity = plus(scale(system.velocity_decay, velocity), kick)
        angular = plus(scale(system.angular_decay, angular), twist)
        position = plus(body.position, scale(dt, velocity))
        result.append(
            Bodies(position, _turned(body.rotation, scale(dt, angular)), velocity, angular)
        )
    return tuple(result)


def _turned(q: Quaternion, angle: Vector) -> Quaternion:
    """First-order rotation of a quaternion by small angles about the world axes, normalised."""
    moved = quaternion_product((0.0, *scale(0.5, angle)), q)
    new = [add(a, b) for a, b in zip(q, moved, strict=True)]
    w, x, y, z = (mul(1.0 / jnp.sqrt(jnp.asarray(dot(new, new))), c) for c in new)
    return w, x, y, z


def drive(system: SpringSystem, action: jax.Array) -> Drive:
    """Joint forces of clipped actions (actuators, batch): by group and dof, each (links, batch)."""
    if not system.actuators:
        forces = jnp.zeros((system.dof_count, action.shape[-1]), action.dtype)
    else:
        index, *columns = system.actuators
        low, high, weakest, strongest, gain, gear = (
            np.asarray(c)[:, None].astype(action.dtype) for c in columns
        )
        force = jnp.clip(gain * jnp.clip(action, low, high), weakest, strongest) * gear
        forces = accumulate(force, index.tolist(), system.dof_count)
    return tuple(
        () if joints.kind == "free" else tuple(take(forces, dof.index) for dof in joints.dofs)
        for joints in system.joints
    )


def _joint_outputs(
    joints: Joints, joint: _Joint, one: Component
) -> tuple[list[Sequence[Component]], list[Component], list[Component]]:
    """Brax's ``j, jd, a_p, a_c`` (each as two groups of components), ``q`` and ``qd`` of some joints."""
    parent, child = joint.parent, joint.child
    anchor = quaternion_product(parent.rotation, joints.parent_rotation)
    child_anchor = quaternion_product(child.rotation, joints.child_rotation)
    local = rotation(joints.parent_rotation)

    def inside(v: Vector) -> Vector:
        return apply_transposed(local, apply_transposed(joint.parent_matrix, v))

    position, turned = inside(joint.offset), quaternion_product(conjugate(anchor), child_anchor)
    angular, velocity = inside(joint.angular), inside(joint.velocity)
    anchor, child_anchor, position, turned, angular, velocity = fence(
        (anchor, child_anchor, position, turned, angular, velocity), one
    )
    groups = [
        *(position, turned, angular, velocity),
        *(plus(parent.position, joint.parent_arm), anchor),
        *(plus(child.position, joint.child_arm), child_anchor),
    ]
    inner = apply_transposed(rotation(turned), angular)
    if joints.kind == "free":
        return groups, [*position, *turned], [*velocity, *inner]
    q: list[Component] = []
    qd: list[Component] = []
    axes = [*joint.child_axes[:2], scale(joints.parity, joint.child_axes[2])]
    for i, dof in enumerate(joints.dofs):
        if dof.axis is not None:
            axis = apply(joint.parent_matrix, dof.axis)
            q.append(dot(joint.offset, axis))
            qd.append(dot(joint.velocity, axis))
        else:
            q.append(_angle(joint, joints.parity, i))
            # For joints to the world Brax turns the velocity into the child's frame, not the axis.
            qd.append(dot(inside(axes[i]), inner if joints.parent is None else angular))
    return groups, q, qd


def _ordered(rows: list[jax.Array], index: list[tuple[int, ...]]) -> jax.Array:
    """Brings blocks of rows, whose places in Brax's order are ``index``, into that order."""
    return take(jnp.concatenate(rows), np.argsort(np.concatenate(index)).tolist())


class Outputs(NamedTuple):
    """Fields of Brax's spring state, leaves (rows, components, batch) in Brax's order."""

    q: jax.Array  # (q, batch)
    qd: jax.Array  # (qd, batch)
    x: tuple[jax.Array, jax.Array]  # link frames: position, quaternion
    xd: tuple[jax.Array, jax.Array]  # angular, linear velocity
    x_i: tuple[jax.Array, jax.Array]  # centres of mass
    xd_i: tuple[jax.Array, jax.Array]
    j: tuple[jax.Array, jax.Array]  # child relative to parent, in the joint's frame
    jd: tuple[jax.Array, jax.Array]
    a_p: tuple[jax.Array, jax.Array]  # joint anchor on the parent
    a_c: tuple[jax.Array, jax.Array]  # joint anchor on the child
    i_inv: jax.Array  # (links, 9, batch), of the rotation before the last substep


def outputs(
    system: SpringSystem,
    links: Links,
    last_rotations: Sequence[Quaternion],
    one: Component = 1.0,
) -> Outputs:
    """Everything that Brax's state holds, from the state of the links.

    Args:
        system: constants.
        links: state of the links.
        last_rotations: rotations of each group before the last substep.
        one: as in :func:`substep`.
    """
    matrices = _matrices(links, one)
    last = [fence(rotation(q), one) for q in last_rotations]
    fields: list[list[jax.Array]] = []
    q_rows, qd_rows = [], []
    for group, (joints, body) in enumerate(zip(system.joints, links, strict=True)):
        like = body.position[0]
        groups, q, qd = _joint_outputs(joints, _joint(joints, group, links, matrices, one), one)
        arm = apply(matrices[group], joints.origin)
        groups += [
            *(plus(body.position, arm), body.rotation),
            *(body.angular, plus(body.velocity, cross(body.angular, arm))),
            *(body.position, body.rotation, body.angular, body.velocity),
            [x for row in _inertia_entries(joints, last[group]) for x in row],
        ]
        groups, q, qd = fence((groups, q, qd), one)
        fields.append([_stack(components, like) for components in groups])
        q_rows.extend(_stack(q, like))
        qd_rows.extend(_stack(qd, like))
    links_order = np.argsort([i for joints in system.joints for i in joints.links]).tolist()
    merged = [
        jnp.moveaxis(take(jnp.concatenate(parts, axis=1), links_order), 0, 1)
        for parts in zip(*fields, strict=True)
    ]
    pairs = [(merged[i], merged[i + 1]) for i in range(0, 16, 2)]
    j, jd, a_p, a_c, x, xd, x_i, xd_i = pairs
    return Outputs(
        q=_ordered(q_rows, [i for joints in system.joints for i in joints.coordinates]),
        qd=_ordered(qd_rows, [dof.index for joints in system.joints for dof in joints.dofs]),
        x=x,
        xd=xd,
        x_i=x_i,
        xd_i=xd_i,
        j=j,
        jd=jd,
        a_p=a_p,
        a_c=a_c,
        i_inv=merged[16],
    )


def unpack(system: SpringSystem, state: Packed) -> Links:
    """Splits Brax's arrays into components by group."""
    result = []
    for joints in system.joints:
        parts = []
        for field in state:
            rows = jnp.moveaxis(field, 1, 0)
            parts.append(tuple(take(rows[i], joints.links) for i in range(rows.shape[0])))
        result.append(Bodies(*parts))
    return tuple(result)


def pack(system: SpringSystem, links: Links) -> Packed:
    """The inverse of :func:`unpack`, and its transpose."""
    order = np.argsort([i for joints in system.joints for i in joints.links]).tolist()
    fields = []
    for parts in zip(*links, strict=True):
        rows = jnp.concatenate([_stack(part, part[0]) for part in parts], axis=1)
        fields.append(jnp.moveaxis(take(rows, order), 0, 1))
    return Packed(*fields)
