"""Brax's spring physics, written for arrays whose last axis is the batch.

Same semantics as ``brax.spring.pipeline.step`` (joints as springs in maximal coordinates, contacts as
velocity impulses with Baumgarte stabilization, semi-implicit Euler), arranged so that XLA can vectorise
and differentiate it cheaply:

- the state is the position, rotation and velocities of every link's centre of mass, as components
  ``(links, batch)``, grouped by kind of joint. All other fields of Brax's state follow from these.
- what depends on the system alone is a constant, folded while tracing.
- a contact is a sphere at a constant place on its link against a constant plane or a box; a capsule is
  two spheres.

Rotations are assumed to be unit quaternions, which the integrator guarantees.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.physics.actuators import joint_forces
from rpgjax.physics.components import (
    IDENTITY,
    ZERO,
    Component,
    Matrix,
    Quaternion,
    Vector,
    add,
    apply,
    constant,
    cross,
    dot,
    fence,
    minus,
    mul,
    plus,
    quaternion_product,
    rotation,
    scale,
)
from rpgjax.physics.rows import take
from rpgjax.physics.spring_contacts import (
    Body,
    Kick,
    averaged,
    box_kick,
    ground_kick,
)
from rpgjax.physics.spring_joints import Bodies, joint_force, relate
from rpgjax.physics.spring_spin import Spin
from rpgjax.physics.spring_system import Joints, SpringSystem
from rpgjax.physics.trees import at_rows, to_parents

Links: TypeAlias = tuple[Bodies, ...]
"""State of a whole system: one entry per group, in the order of ``SpringSystem.joints``."""

Drive: TypeAlias = tuple[tuple[Component, ...], ...]
"""Joint forces by group and degree of freedom."""

WORLD = Bodies(ZERO, (1.0, 0.0, 0.0, 0.0), ZERO, ZERO)


def _parent(joints: Joints, links: Links, matrices: list[Matrix]) -> tuple[Bodies, Matrix]:
    """Parents of a group of links; one row where all have the same parent."""
    if joints.parent is None:
        return WORLD, IDENTITY
    parent, matrix = links[joints.parent], matrices[joints.parent]
    return at_rows((parent, matrix), joints.parent_rows)


def _forces(
    system: SpringSystem, links: Links, matrices: list[Matrix], tau: Drive, one: Component
) -> list[tuple[Vector, Vector]]:
    """Force and torque on every centre of mass, by group."""
    result = [(ZERO, ZERO)] * len(links)
    for group, joints in enumerate(system.joints):
        if joints.kind == "free":
            continue
        parent, parent_matrix = _parent(joints, links, matrices)
        joint = relate(joints.frames, links[group], matrices[group], parent, parent_matrix, one)
        force, torque = fence(joint_force(joints, joint, parent_matrix, tau[group]), one)
        mine = result[group]
        arm = plus(torque, cross(joint.child_arm, force))
        result[group] = plus(mine[0], force), plus(mine[1], arm)
        if joints.parent is None:
            continue
        parents = jnp.asarray(links[joints.parent].position[0]).shape[0]
        arm = plus(torque, cross(joint.parent_arm, force))
        theirs = result[joints.parent]
        result[joints.parent] = (
            minus(theirs[0], to_parents(force, joints.parent_rows, len(joints.links), parents)),
            minus(theirs[1], to_parents(arm, joints.parent_rows, len(joints.links), parents)),
        )
    return fence(result, one)


def _principal_axes(joints: Joints, matrix: Matrix, one: Component) -> tuple[Vector, ...]:
    if joints.frames.inverse_inertia is None:
        return ()
    return fence(tuple(apply(matrix, axis) for axis in joints.frames.inertia_axes), one)


def _accelerate(joints: Joints, axes: tuple[Vector, ...], torque: Vector) -> Vector:
    """Inverse inertia times torque, in the world frame."""
    if joints.frames.inverse_inertia is None:
        return torque
    result = ZERO
    for axis, inverse in zip(axes, joints.frames.inverse_inertia, strict=True):
        result = plus(result, scale(mul(inverse, dot(axis, torque)), axis))
    return result


def _contact_spin(system: SpringSystem, spin: Spin, axes: list[tuple[Vector, ...]]) -> Component:
    if spin.constant is not None:
        return spin.constant
    result: Component = 0.0
    for group, row, i, j, who in spin.entries:
        inverse = system.joints[group].frames.inverse_inertia or (1.0, 1.0, 1.0)
        entry: Component = 0.0
        for k, axis in zip(inverse, axes[group] or IDENTITY, strict=True):
            entry = add(entry, mul(k, mul(axis[i], axis[j])))
        if isinstance(entry, jax.Array):
            entry = entry[row : row + 1]
        result = add(result, mul(constant(who), entry))
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
    matrices = [fence(rotation(group.rotation), one) for group in links]
    all_axes = [
        _principal_axes(joints, matrix, one)
        for joints, matrix in zip(system.joints, matrices, strict=True)
    ]
    forces = _forces(system, links, matrices, tau, one)
    moving = []
    for group, (joints, axes) in enumerate(zip(system.joints, all_axes, strict=True)):
        force, torque = forces[group]
        pull = plus(scale(1.0 / joints.frames.mass, force), system.gravity)
        velocity = plus(links[group].velocity, scale(dt, pull))
        angular = plus(links[group].angular, scale(dt, _accelerate(joints, axes, torque)))
        if system.slots[group]:
            velocity, angular = fence((velocity, angular), one)
        moving.append(links[group]._replace(velocity=velocity, angular=angular))
    impulses = _contacts(system, moving, matrices, all_axes, one)
    result = []
    for joints, body, axes, (impulse, twist) in zip(
        system.joints, moving, all_axes, impulses, strict=True
    ):
        kick = scale(1.0 / joints.frames.mass, impulse)
        velocity = plus(scale(system.velocity_decay, body.velocity), kick)
        turn = _accelerate(joints, axes, twist)
        angular = plus(scale(system.angular_decay, body.angular), turn)
        velocity, angular = fence((velocity, angular), one)
        position = plus(body.position, scale(dt, velocity))
        turned = _turned(body.rotation, scale(dt, angular), one)
        result.append(Bodies(position, turned, velocity, angular))
    return tuple(result)


def _contacts(
    system: SpringSystem,
    moving: list[Bodies],
    matrices: list[Matrix],
    axes: list[tuple[Vector, ...]],
    one: Component,
) -> list[tuple[Vector, Vector]]:
    """Impulse and angular impulse of contacts on every centre of mass, by group."""

    def seen(spin: Spin | None) -> Component:
        return 0.0 if spin is None else fence(_contact_spin(system, spin, axes), one)

    kicks: list[list[Kick]] = [[] for _ in moving]
    for group, joints in enumerate(system.joints):
        if joints.contacts is not None:
            mass = 1.0 / joints.frames.mass
            body = Body(moving[group], matrices[group], mass, seen(joints.spin))
            kicks[group].append(ground_kick(joints.contacts, body, system.baumgarte, one))
    if system.boxes:
        groups = zip(moving, matrices, strict=True)
        every = jax.tree.map(lambda *parts: jnp.concatenate(parts), *groups)
        stops = np.cumsum([len(joints.links) for joints in system.joints])
        for boxes in system.boxes:
            spins = seen(boxes.spin), seen(boxes.box_spin)
            kick = box_kick(boxes, every, spins, system.baumgarte, one)
            for mine, joints, stop in zip(kicks, system.joints, stops, strict=True):
                rows = slice(stop - len(joints.links), stop)
                mine.append(jax.tree.map(lambda c, rows=rows: c[rows], kick))
    return [
        averaged(mine, slots) if slots else (ZERO, ZERO)
        for mine, slots in zip(kicks, system.slots, strict=True)
    ]


def _turned(q: Quaternion, angle: Vector, one: Component) -> Quaternion:
    """First-order rotation of a quaternion by small angles about the world axes, normalised."""
    moved = quaternion_product((0.0, *scale(0.5, angle)), q)
    new = fence([add(a, b) for a, b in zip(q, moved, strict=True)], one)
    shrink = fence(1.0 / jnp.sqrt(jnp.asarray(dot(new, new))), one)
    w, x, y, z = (mul(shrink, c) for c in new)
    return w, x, y, z


def drive(system: SpringSystem, action: jax.Array) -> Drive:
    """Joint forces of clipped actions (actuators, batch): by group and dof, each (links, batch)."""
    forces = joint_forces(system.actuators, system.dof_count, action)
    return tuple(
        () if joints.kind == "free" else tuple(take(forces, dof.index) for dof in joints.dofs)
        for joints in system.joints
    )
