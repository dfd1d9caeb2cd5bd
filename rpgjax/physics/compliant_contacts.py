"""What compliant contacts add to links: inertia, as they act on the speed at a step's end, and wrenches."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rpgjax.physics.articulated import Moving, Placed
from rpgjax.physics.capsules import Touch, gap_between
from rpgjax.physics.compliance import press
from rpgjax.physics.compliant_system import Branch, CompliantSystem
from rpgjax.physics.components import (
    Component,
    Vector,
    add,
    apply,
    dot,
    fence,
    minus,
    mul,
    plus,
    scale,
    sub,
)
from rpgjax.physics.rows import accumulate
from rpgjax.physics.spatial import (
    Inertia,
    Spatial,
    applied,
    at,
    point_inertia,
    scaled_identity,
    times,
)
from rpgjax.physics.trees import at_rows


def of_the_ground(
    system: CompliantSystem,
    branch: Branch,
    where: Placed,
    moving: Moving,
    origin: Vector,
    one: Component,
) -> tuple[Inertia, Spatial]:
    """What contacts with planes add to a link's inertia, and their wrench on it at the speed as it is."""
    known, count = branch.contacts, len(branch.links)
    position, matrix, velocity = at_rows(
        (where.position, where.matrix, moving.velocity), known.rows
    )
    if known.slots > 1:
        position, matrix, velocity = _with_slots((position, matrix, velocity))
    n = known.normal
    centre = plus(position, apply(matrix, known.centre))
    gap = jnp.asarray(sub(sub(dot(centre, n), known.height), known.radius))
    point = minus(minus(centre, scale(add(known.radius, 0.5 * gap), n)), origin)
    point, gap = fence((point, gap), one)
    inertia, wrench = _resisted(
        system, gap, at(velocity, point), n, point, known.friction, known.exists, one
    )
    if known.slots > 1:
        inertia, wrench = _over_slots((inertia, wrench), known.slots)
    if known.rows is not None:
        inertia, wrench = jax.tree.map(
            lambda c: c if isinstance(c, float) else _to_links(c, known.rows, count),
            (inertia, wrench),
        )
    return inertia, wrench


def _to_links(x: jax.Array, rows: Sequence[int], count: int) -> jax.Array:
    return accumulate(jnp.broadcast_to(x, (len(rows), x.shape[-1])), rows, count)


def of_two_links(
    system: CompliantSystem,
    touch: Touch,
    links: tuple[tuple[Placed, Moving], tuple[Placed, Moving]],
    origin: Vector,
    one: Component,
) -> tuple[Inertia, Spatial]:
    """What contacts set against the second link's motion as the first sees it, and their wrench on it."""
    centres, axes, velocities = [], [], []
    for (where, moving), capsules in zip(links, touch.capsules, strict=True):
        position, matrix, velocity = _with_slots((where.position, where.matrix, moving.velocity))
        centres.append(plus(position, apply(matrix, capsules.centre)))
        axes.append(apply(matrix, capsules.axis))
        velocities.append(velocity)
    centres, axes = fence((tuple(centres), tuple(axes)), one)
    gap, n, point = gap_between(touch.capsules, centres, axes)
    point, gap, n = fence((minus(point, origin), gap, n), one)
    moved = minus(at(velocities[1], point), at(velocities[0], point))
    found = _resisted(system, gap, moved, n, point, touch.friction, None, one)
    return _over_slots(found, touch.contacts)


def _resisted(
    system: CompliantSystem,
    gap: jax.Array,
    moved: Vector,
    n: Vector,
    point: Vector,
    friction: Component,
    exists: Component | None,
    one: Component,
) -> tuple[Inertia, Spatial]:
    """Of points that move against what they touch, along the normal `n` and across it."""
    speed = jnp.asarray(dot(moved, n))
    slide = minus(moved, scale(speed, n))
    push, resist, load = press(
        gap,
        speed,
        system.stiffness,
        system.damping,
        system.compliance.smoothing,
        system.timestep,
    )
    if exists is not None:
        push, resist, load = (mul(exists, c) for c in (push, resist, load))
    slip = add(dot(slide, slide), system.compliance.slip**2)
    slow = mul(friction, load) / jnp.sqrt(jnp.asarray(slip))
    push, resist, slow = fence((push, resist, slow), one)
    force = minus(scale(push - mul(resist, speed), n), scale(slow, slide))
    extra = resist - slow
    matrix = tuple(
        plus(row, scale(mul(extra, c), n)) for row, c in zip(scaled_identity(slow), n, strict=True)
    )
    inertia = times(system.timestep, point_inertia(point, fence(matrix, one)))
    return inertia, applied(fence(force, one), point)


def _with_slots(tree):
    """An axis in front, for several contacts of a link."""
    return jax.tree.map(lambda c: c if isinstance(c, float) else c[None], tree)


def _over_slots(tree, slots: int):
    """The sum over a link's contacts. Where all are alike, their constants are one, and so is the axis."""

    def total(c: Component) -> Component:
        if isinstance(c, float):
            return slots * c
        return jnp.sum(c, axis=0) if c.shape[0] == slots else slots * c[0]

    return jax.tree.map(total, tree)
