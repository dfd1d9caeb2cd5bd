"""Compliant contact on arrays whose last axis is the batch, a link's worth of work a link.

What `rpgjax.physics.compliant_dense` does, without its matrix: what contacts and joints do to a speed is
implicit, and that is as if links had more inertia, and joints bigger rotors. So the articulated-body
algorithm (Featherstone) solves for the accelerations, once up the tree and once down.
"""

from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.physics.actuators import joint_forces
from rpgjax.physics.articulated import (
    Rows,
    Tie,
    accelerations,
    first_link,
    move_links,
    own_inertia,
    place_links,
)
from rpgjax.physics.batched_step import Physics
from rpgjax.physics.compliance import press
from rpgjax.physics.compliant_contacts import of_the_ground, of_two_links
from rpgjax.physics.compliant_system import FAR, CompliantSystem, Dof
from rpgjax.physics.components import (
    Component,
    add,
    apply,
    dot,
    fence,
    minus,
    mul,
    neg,
    plus,
    quaternion_product,
    scale,
    stack,
    sub,
    total,
)
from rpgjax.physics.fluid import drag
from rpgjax.physics.rows import take
from rpgjax.physics.spatial import (
    NOTHING,
    at,
    halves,
    sum_of,
    times,
)

Coordinates: TypeAlias = tuple[jax.Array, jax.Array]
"""Brax's q and qd, (q, batch) and (qd, batch)."""


class Outputs(NamedTuple):
    """Fields of Brax's state; links in Brax's order."""

    q: jax.Array  # (q, batch)
    qd: jax.Array  # (qd, batch)
    position: jax.Array  # (links, 3, batch)
    rotation: jax.Array  # (links, 4, batch)
    angular: jax.Array  # (links, 3, batch)
    velocity: jax.Array  # (links, 3, batch), of the links' frames


def _at_stop(
    system: CompliantSystem, dof: Dof, value: jax.Array, rate: jax.Array
) -> tuple[Component, Component]:
    """Push and resistance of a joint's stops."""
    push: Component = 0.0
    resist: Component = 0.0
    if dof.stop is None:
        return push, resist
    numbers = (jnp.asarray(c, value.dtype) for c in dof.stop)
    low, high, stiffness, damping = numbers
    for side, limit, place in ((1.0, low, dof.stop.low), (-1.0, high, dof.stop.high)):
        if isinstance(place, float) and abs(place) == FAR:
            continue
        out, hold, _ = press(
            side * (value - limit),
            side * rate,
            stiffness,
            damping,
            system.compliance.stop_smoothing,
            system.timestep,
        )
        push, resist = add(push, side * out), add(resist, hold)
    return push, resist


def substep(
    system: CompliantSystem, now: Coordinates, tau: jax.Array, one: Component = 1.0
) -> Coordinates:
    """q and qd after one physics step; `tau` (qd, batch) are the actuators' forces."""
    q, qd = now
    placed = place_links(system.branches, q, one)
    origin = first_link(placed)
    moving = move_links(system.branches, placed, origin, system.gravity, qd, one)
    inertias, wrenches, drives = [], [], []
    for branch, where, how in zip(system.branches, placed, moving, strict=True):
        inertia, wrench = own_inertia(branch, where, how, origin)
        outside = NOTHING
        if branch.contacts is not None:
            more, outside = of_the_ground(system, branch, where, how, origin, one)
            inertia = sum_of(inertia, more)
        if branch.fluid is not None:
            centre = minus(plus(where.position, apply(where.matrix, branch.centre)), origin)
            slowing = drag(branch.fluid, where.matrix, centre, how.velocity, one)
            outside = sum_of(outside, slowing)
        wrench = tuple(sub(a, b) for a, b in zip(wrench, outside, strict=True))
        inertias.append(fence(inertia, one))
        wrenches.append(fence(wrench, one))
        if not branch.dofs:
            drives.append([(0.0, 0.0)] * 6)
            continue
        drive = []
        for dof, at_q, at_qd in zip(branch.dofs, branch.q, branch.qd, strict=True):
            value, rate = take(q, at_q), take(qd, at_qd)
            push, resist = _at_stop(system, dof, value, rate)
            resist = add(resist, dof.damping)
            force = total(
                [take(tau, at_qd), push, neg(mul(dof.stiffness, value)), neg(mul(resist, rate))]
            )
            drive.append((force, add(dof.armature, mul(system.timestep, resist))))
        drives.append(drive)
    ties = {}
    for first, second, touch in system.touches:
        pair = tuple((placed[i], moving[i]) for i in (first, second))
        inertia, wrench = of_two_links(system, touch, pair, origin, one)
        ties[second] = Tie(first, fence(inertia, one))
        wrenches[first] = fence(sum_of(wrenches[first], wrench), one)
        wrenches[second] = fence(sum_of(wrenches[second], times(-1.0, wrench)), one)
    found = accelerations(system.branches, inertias, wrenches, moving, drives, one, ties)
    return _integrate(system, q, qd, found, one)


def _integrate(
    system: CompliantSystem, q: jax.Array, qd: jax.Array, found: list[Rows], one: Component
) -> Coordinates:
    dt = system.timestep
    values: list[jax.Array] = []
    rates: list[jax.Array] = []
    for branch, changes in zip(system.branches, found, strict=True):
        before = [take(q, rows) for rows in branch.q]
        after = [
            take(qd, rows) + dt * change for rows, change in zip(branch.qd, changes, strict=True)
        ]
        after = [jnp.broadcast_to(x, before[0].shape) for x in fence(after, one)]
        rates += after
        if branch.dofs:
            values += [x + dt * v for x, v in zip(before, after, strict=True)]
            continue
        values += [x + dt * v for x, v in zip(before[:3], after[:3], strict=True)]
        half = tuple(0.5 * dt * v for v in after[3:])
        angle = jnp.sqrt(dot(half, half) + 1e-12)  # the square root has no derivative at 0
        turn = fence((jnp.cos(angle), *scale(jnp.sin(angle) / angle, half)), one)
        new = fence(quaternion_product((*before[3:],), turn), one)
        shrink = fence(1.0 / jnp.sqrt(dot(new, new)), one)
        values += [mul(shrink, c) for c in new]
    return tuple(
        _in_order(rows, [at for b in system.branches for at in getattr(b, name)])
        for rows, name in ((values, "q"), (rates, "qd"))
    )


def _in_order(rows: list[jax.Array], places: list[tuple[int, ...]]) -> jax.Array:
    """Rows of branches' coordinates in Brax's order."""
    index = [i for at in places for i in at]
    return take(jnp.concatenate(rows), np.argsort(index).tolist())


def outputs(
    system: CompliantSystem, final: Coordinates, kept: tuple[()], one: Component = 1.0
) -> Outputs:
    """Everything that Brax's state holds."""
    q, qd = final
    placed = place_links(system.branches, q, one)
    origin = first_link(placed)
    moving = move_links(system.branches, placed, origin, system.gravity, qd, one)
    fields: list[list[jax.Array]] = [[], [], [], []]
    for branch, where, how in zip(system.branches, placed, moving, strict=True):
        like = take(q, branch.q[0])
        angular, _ = halves(how.velocity)
        velocity = at(how.velocity, minus(where.position, origin))
        for field, value in zip(
            fields, (where.position, where.rotation, angular, velocity), strict=True
        ):
            field.append(stack(value, like))
    in_order = (take(jnp.concatenate(field, axis=1), system.place) for field in fields)
    return Outputs(q, qd, *(jnp.moveaxis(field, 0, 1) for field in in_order))


def compliant_physics(system: CompliantSystem) -> Physics:
    """Of a system: from q and qd to them and the links' places and velocities."""
    return Physics(
        unpack=lambda state: state,
        pack=lambda state: state,
        drive=partial(joint_forces, system.actuators, system.dof_count),
        substep=partial(substep, system),
        keep=lambda state: (),
        outputs=partial(outputs, system),
    )
