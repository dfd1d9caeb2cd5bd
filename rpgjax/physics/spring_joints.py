"""Joints as springs: the forces that hold the links of the spring physics together.

Joint forces are evaluated in the world frame: springs and dampers are isotropic, so most of Brax's
rotations into the joint frame and back cancel.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from rpgjax.physics.components import (
    Component,
    Matrix,
    Quaternion,
    Vector,
    add,
    apply,
    arrays,
    cross,
    dot,
    fence,
    minus,
    mul,
    plus,
    safe_length,
    scale,
    sub,
)
from rpgjax.physics.spring_system import Dof, Frames, Joints


class Bodies(NamedTuple):
    """Dynamic state of a group of links, components (links, batch); constants for the world."""

    position: Vector  # centre of mass, world frame
    rotation: Quaternion  # unit quaternion
    velocity: Vector  # of the centre of mass
    angular: Vector  # angular velocity, world frame


class Relation(NamedTuple):
    """Relative placement and motion at a group of joints, in the world frame."""

    parent_arm: Vector  # from the parent's centre of mass to the joint
    child_arm: Vector
    offset: Vector  # child anchor minus parent anchor
    velocity: Vector  # of the child's origin relative to the parent's anchor
    angular: Vector
    parent_axes: tuple[Vector, Vector, Vector]
    child_axes: tuple[Vector, Vector, Vector]


def relate(
    frames: Frames,
    child: Bodies,
    child_matrix: Matrix,
    parent: Bodies,
    parent_matrix: Matrix,
    one: Component,
) -> Relation:
    """Relates children to their parents; ``one`` as in :func:`rpgjax.physics.components.fence`."""
    parent_arm = apply(parent_matrix, frames.parent_anchor)
    child_arm = apply(child_matrix, frames.child_anchor)
    # Brax compares the velocity of the child's origin, not of its anchor, with that of the parent's
    # anchor mirrored at the parent's origin. The quirk is part of the tasks, so it is kept.
    moved = plus(child.velocity, cross(child.angular, apply(child_matrix, frames.origin)))
    mirrored = apply(parent_matrix, frames.parent_mirror)
    anchored = plus(parent.velocity, cross(parent.angular, mirrored))
    x, y, z = (apply(parent_matrix, axis) for axis in frames.parent_axes)
    u, v, w = (apply(child_matrix, axis) for axis in frames.child_axes)
    relation = Relation(
        parent_arm=parent_arm,
        child_arm=child_arm,
        offset=minus(plus(child.position, child_arm), plus(parent.position, parent_arm)),
        velocity=minus(moved, anchored),
        angular=minus(child.angular, parent.angular),
        parent_axes=(x, y, z),
        child_axes=(u, v, w),
    )
    return fence(relation, one)


def euler_angle(f: Sequence[Vector], c: Sequence[Vector], parity: Component, i: int) -> Component:
    """The i-th intrinsic x-y'-z'' Euler angle of a joint.

    Brax builds them from the line of nodes and an arc cosine; the arc tangents here are the same
    functions, without its clipped derivative where the second angle is within 5e-4 of zero.

    Args:
        f: axes of the joint on the parent.
        c: axes of the joint on the child.
        parity: handedness of the third rotation.
        i: which angle, 0 to 2.
    """
    if i == 0:
        return jnp.arctan2(*arrays(mul(-1.0, dot(f[1], c[2])), dot(f[2], c[2])))
    along, across = dot(f[0], c[0]), dot(f[0], c[1])
    if i == 1:
        length = jnp.sqrt(jnp.asarray(add(mul(along, along), mul(across, across))))
        return jnp.arctan2(*arrays(dot(f[0], c[2]), length))
    return jnp.arctan2(*arrays(mul(mul(-1.0, parity), across), along))


def _excess(coordinate: Component, dof: Dof) -> Component:
    """How far a coordinate is outside of its limits; 0 within them."""
    if dof.limits is None:
        return 0.0
    x = jnp.asarray(coordinate)
    low, high = (jnp.asarray(c, x.dtype) for c in dof.limits)
    return jnp.where(x > high, x - high, jnp.where(x < low, x - low, 0.0))


def _turn_axis(joints: Joints, joint: Relation, i: int) -> Vector:
    """Axis about which the i-th rotational dof drives."""
    if i == 0:
        return joint.parent_axes[0]
    return joint.child_axes[1] if i == 1 else scale(joints.frames.parity, joint.child_axes[2])


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


def joint_force(
    joints: Joints, joint: Relation, parent_matrix: Matrix, tau: Sequence[Component]
) -> tuple[Vector, Vector]:
    """Force and torque on the child at its anchor, in the world frame."""
    force = minus(
        scale(mul(-1.0, joints.stiffness), joint.offset),
        scale(joints.velocity_damping, joint.velocity),
    )
    torque = scale(mul(-1.0, joints.angular_damping), joint.angular)
    spring, free_force = joints.limit_stiffness, force
    for i, (dof, drive) in enumerate(zip(joints.dofs, tau, strict=True)):
        if dof.axis is not None:
            axis = apply(parent_matrix, dof.axis)
            past = _excess(dot(joint.offset, axis), dof)
            along = sub(sub(drive, mul(spring, past)), dot(free_force, axis))
            force = plus(force, scale(along, axis))
        else:
            past = (
                0.0
                if dof.limits is None
                else _excess(
                    euler_angle(joint.parent_axes, joint.child_axes, joints.frames.parity, i), dof
                )
            )
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
