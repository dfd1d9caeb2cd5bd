"""Contacts as velocity impulses: what ground, walls and blocks do to the links of the spring physics."""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.physics.boxes import BoxContacts, closest, nearest
from rpgjax.physics.components import (
    Component,
    Matrix,
    Vector,
    add,
    apply,
    apply_transposed,
    cross,
    dot,
    fence,
    minus,
    mul,
    neg,
    plus,
    safe_length,
    scale,
    sub,
    total,
)
from rpgjax.physics.ground import Contacts
from rpgjax.physics.rows import accumulate, take
from rpgjax.physics.spring_joints import Bodies

Tree = TypeVar("Tree")


class Body(NamedTuple):
    """A group of links, or those of it that touch something."""

    state: Bodies  # with the velocities after this substep's joint forces
    matrix: Matrix  # rotations
    inverse_mass: Component
    spin: Component  # what the contacts see of the inverse inertia


class Kick(NamedTuple):
    """What contacts do to a group of links, summed over the contacts of each, (links, batch)."""

    impulse: Vector
    twist: Vector  # angular impulse
    touches: jax.Array


def ground_kick(contacts: Contacts, body: Body, baumgarte: float, one: Component) -> Kick:
    """Of planes, on a group of links.

    Args:
        contacts: constants of the contacts.
        body: the group; `spin` of those rows that have contacts.
        baumgarte: speed per metre of penetration at which bodies are pushed apart.
        one: the number 1 where XLA is to keep shared values, see :func:`components.fence`.
    """
    links = jnp.asarray(body.state.position[0]).shape[0]
    body = _that_touch(contacts, body)
    n, centre = contacts.normal, apply(body.matrix, contacts.centre)
    level = sub(dot(plus(body.state.position, centre), n), contacts.height)
    distance = jnp.asarray(sub(level, contacts.radius))
    arm = minus(centre, scale(add(contacts.radius, 0.5 * distance), n))
    impulse, (arm,), touching = _impulse(contacts, n, distance, [(body, arm)], baumgarte, one)
    return _on_links(contacts, links, impulse, arm, touching, one)


def box_kicks(
    contacts: BoxContacts, body: Body, other: Body | None, baumgarte: float, one: Component
) -> tuple[Kick, Kick | None]:
    """Of boxes, on a group of links with spheres and on the link of the boxes, (1, batch).

    Args:
        contacts: constants of the contacts.
        body: the group; `spin` of those rows that have contacts.
        other: the boxes' link, None for the world.
        baumgarte: speed per metre of penetration at which bodies are pushed apart.
        one: the number 1 where XLA is to keep shared values, see :func:`components.fence`.
    """
    links = jnp.asarray(body.state.position[0]).shape[0]
    body = _that_touch(contacts, body)
    if other is not None and contacts.slots > 1:
        other = _with_slots(other)
    centre = apply(body.matrix, contacts.centre)
    place = plus(body.state.position, centre)
    if other is not None:
        place = apply_transposed(other.matrix, minus(place, other.state.position))
    place = fence(place, one)
    mine, theirs = [], []
    for box in closest(place, contacts.boxes, contacts.most):
        level, n = nearest(place, box, one)
        if other is not None:
            n = fence(apply(other.matrix, n), one)
        distance = sub(level, contacts.radius)
        arm = minus(centre, scale(add(contacts.radius, 0.5 * distance), n))
        sides = [(body, arm)]
        if other is not None:
            offset = minus(body.state.position, other.state.position)
            sides.append((other, plus(offset, arm)))
        impulse, arms, touching = _impulse(contacts, n, distance, sides, baumgarte, one)
        mine.append(_on_links(contacts, links, impulse, arms[0], touching, one))
        if other is not None:
            theirs.append(_on_one(scale(-1.0, impulse), arms[1], touching, one))
    return total_kick(mine), total_kick(theirs) if theirs else None


def total_kick(kicks: list[Kick]) -> Kick:
    """What several contacts do."""
    return jax.tree.map(lambda *parts: total(parts), *kicks)


def one_row(body: Body, row: int) -> Body:
    """One link of a group."""

    def pick(c: Component) -> Component:
        return take(c, (row,)) if isinstance(c, jax.Array) else c

    mass = body.inverse_mass
    mass = mass[[row]] if isinstance(mass, np.ndarray) else mass
    state, matrix = jax.tree.map(pick, (body.state, body.matrix))
    return Body(state, matrix, mass, body.spin)


def on_row(kick: Kick, row: int, links: int) -> Kick:
    """What one link is given, (1, batch), as one row of its group."""
    return jax.tree.map(lambda c: accumulate(c, (row,), links), kick)


def averaged(kicks: list[Kick], slots: int) -> tuple[Vector, Vector]:
    """Impulse and angular impulse on a group, averaged over the contacts of each of its links.

    Args:
        kicks: what different contacts do.
        slots: how many contacts a link can have.
    """
    impulse, twist, touches = total_kick(kicks)
    if slots == 1:
        return impulse, twist
    touches = jnp.maximum(touches, 1.0)
    return jax.tree.map(lambda c: c / touches, (impulse, twist))


def _impulse(
    contacts: Contacts | BoxContacts,
    n: Vector,
    distance: jax.Array,
    sides: list[tuple[Body, Vector]],
    baumgarte: float,
    one: Component,
) -> tuple[Vector, list[Vector], jax.Array]:
    """Impulse on the first of the bodies that touch, the arms, and where they do touch.

    Args:
        contacts: constants of the contacts.
        n: from the second body, or the world, to the first.
        distance: between the surfaces.
        sides: one body or two, and where the contacts are, seen from their centres of mass.
        baumgarte: speed per metre of penetration at which bodies are pushed apart.
        one: see :func:`components.fence`.
    """
    first, *second = (
        plus(body.state.velocity, cross(body.state.angular, arm)) for body, arm in sides
    )
    velocity = minus(first, second[0]) if second else first
    approach = jnp.asarray(dot(velocity, n))
    slip = minus(velocity, scale(approach, n))
    arms, slip = fence(([arm for _, arm in sides], slip), one)

    def resistance(direction: Vector) -> Component:
        """Inverse of the mass that an impulse in this direction moves."""
        levers = [cross(arm, direction) for arm in arms]
        return total(
            [
                add(body.inverse_mass, mul(body.spin, dot(lever, lever)))
                for (body, _), lever in zip(sides, levers, strict=True)
            ]
        )

    push = neg(mul(contacts.restitution, approach)) - mul(baumgarte, distance)
    push = push / resistance(n)
    speed = safe_length(slip)
    direction = fence(scale(-1.0 / (1e-6 + speed), slip), one)
    drag = speed / resistance(direction)
    drag = jnp.minimum(drag, mul(contacts.friction, push))

    touching = (distance < 0.0) & (approach < 0.0) & (push > 0.0)
    if contacts.exists is not None:
        touching = touching & (contacts.exists > 0.0)
    push, drag = fence((push, drag), one)
    push = jnp.where(touching, push, 0.0)
    drag = jnp.where(touching & (speed > 1e-3), drag, 0.0)
    return fence(plus(scale(push, n), scale(drag, direction)), one), arms, touching


def _that_touch(contacts: Contacts | BoxContacts, body: Body) -> Body:
    """The rows of a group that have contacts, with an axis for the slots where there are several."""
    if (rows := contacts.rows) is not None:
        state, matrix = jax.tree.map(lambda x: take(x, rows), (body.state, body.matrix))
        mass = body.inverse_mass
        mass = mass[list(rows)] if isinstance(mass, np.ndarray) else mass
        body = Body(state, matrix, mass, body.spin)
    return _with_slots(body) if contacts.slots > 1 else body


def _with_slots(body: Body) -> Body:
    return jax.tree.map(lambda c: c if isinstance(c, float) else c[None], body)


def _on_links(
    contacts: Contacts | BoxContacts,
    links: int,
    impulse: Vector,
    arm: Vector,
    touching: jax.Array,
    one: Component,
) -> Kick:
    """Sums over slots, at the rows of the group that have contacts."""
    dtype = jnp.asarray(impulse[0]).dtype
    kick = Kick(*fence((impulse, cross(arm, impulse)), one), touching.astype(dtype))
    if contacts.slots > 1:
        kick = jax.tree.map(lambda c: jnp.sum(c, axis=0), kick)
    if (rows := contacts.rows) is not None:
        kick = jax.tree.map(lambda c: accumulate(jnp.asarray(c), rows, links), kick)
    return kick


def _on_one(impulse: Vector, arm: Vector, touching: jax.Array, one: Component) -> Kick:
    """Sums over all contacts of one link, (1, batch)."""
    kick = Kick(impulse, cross(arm, impulse), touching.astype(jnp.asarray(impulse[0]).dtype))

    def summed(c: jax.Array) -> jax.Array:
        return jnp.sum(c.reshape((-1, c.shape[-1])), axis=0, keepdims=True)

    return jax.tree.map(summed, fence(kick, one))
