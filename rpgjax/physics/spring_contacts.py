"""Contacts as velocity impulses: what ground, walls and blocks do to the links of the spring physics."""

from typing import NamedTuple

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
from rpgjax.physics.rows import accumulate
from rpgjax.physics.spring_joints import Bodies
from rpgjax.physics.trees import at_rows


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
    sides, exists = [(body, arm)], contacts.exists
    impulse, (arm,), touching = _impulse(contacts, n, distance, sides, exists, baumgarte, one)
    kick = Kick(*fence((impulse, cross(arm, impulse)), one), touching.astype(distance.dtype))
    if contacts.slots > 1:
        kick = jax.tree.map(lambda c: jnp.sum(c, axis=0), kick)
    if (rows := contacts.rows) is not None:
        kick = jax.tree.map(lambda c: accumulate(c, rows, links), kick)
    return kick


def box_kick(
    contacts: BoxContacts,
    every: tuple[Bodies, Matrix],
    spins: tuple[Component, Component],
    baumgarte: float,
    one: Component,
) -> Kick:
    """Of boxes, on all links: on those with spheres, and on the boxes' own.

    Args:
        contacts: constants of the contacts.
        every: all links as they stand, in the order of the groups, and their rotations.
        spins: what the contacts see of the inverse inertia, of spheres' links and of the boxes'.
        baumgarte: speed per metre of penetration at which bodies are pushed apart.
        one: the number 1 where XLA is to keep shared values, see :func:`components.fence`.
    """
    links = jnp.asarray(every[0].position[0]).shape[0]
    rows, link = contacts.rows, contacts.link
    body, other = Body(*at_rows(every, rows), contacts.inverse_mass, spins[0]), None
    centre = apply(body.matrix, contacts.centre)
    place = plus(body.state.position, centre)
    if link is not None:
        other = Body(*at_rows(every, (link,)), contacts.box_mass, spins[1])
        place = apply_transposed(other.matrix, minus(place, other.state.position))
    place = fence(place, one)
    level, n = nearest(place, closest(place, contacts.boxes, contacts.most), one)
    if other is not None:
        n = fence(apply(other.matrix, n), one)
    distance = jnp.asarray(sub(level, contacts.radius))
    arm = minus(centre, scale(add(contacts.radius, 0.5 * distance), n))
    sides = [(body, arm)]
    if other is not None:
        sides.append((other, minus(plus(body.state.position, arm), other.state.position)))
    impulse, arms, touching = _impulse(contacts, n, distance, sides, None, baumgarte, one)
    touches = touching.astype(distance.dtype)
    kick = Kick(*fence((impulse, cross(arms[0], impulse)), one), touches)
    kick = jax.tree.map(lambda c: accumulate(c, rows, links), kick)
    if other is None:
        return kick
    back = scale(-1.0, impulse)
    theirs = Kick(*fence((back, cross(arms[1], back)), one), touches)
    return jax.tree.map(
        lambda a, b: a + accumulate(jnp.sum(b, axis=0, keepdims=True), (link,), links), kick, theirs
    )


def averaged(kicks: list[Kick], slots: int) -> tuple[Vector, Vector]:
    """Impulse and angular impulse on a group, averaged over the contacts of each of its links.

    Args:
        kicks: what different contacts do.
        slots: how many contacts a link can have.
    """
    impulse, twist, touches = jax.tree.map(lambda *parts: total(parts), *kicks)
    if slots == 1:
        return impulse, twist
    touches = jnp.maximum(touches, 1.0)
    return jax.tree.map(lambda c: c / touches, (impulse, twist))


def _impulse(
    contacts: Contacts | BoxContacts,
    n: Vector,
    distance: jax.Array,
    sides: list[tuple[Body, Vector]],
    exists: np.ndarray | None,
    baumgarte: float,
    one: Component,
) -> tuple[Vector, list[Vector], jax.Array]:
    """Impulse on the first of the bodies that touch, the arms, and where they do touch.

    Args:
        contacts: constants of the contacts.
        n: from the second body, or the world, to the first.
        distance: between the surfaces.
        sides: one body or two, and where the contacts are, seen from their centres of mass.
        exists: 1 for contacts, 0 for what only fills up an array; None where all are contacts.
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
    if exists is not None:
        touching = touching & (exists > 0.0)
    push, drag = fence((push, drag), one)
    push = jnp.where(touching, push, 0.0)
    drag = jnp.where(touching & (speed > 1e-3), drag, 0.0)
    return fence(plus(scale(push, n), scale(drag, direction)), one), arms, touching


def _that_touch(contacts: Contacts, body: Body) -> Body:
    """The rows of a group that have contacts, with an axis for the slots where there are several."""
    state, matrix, mass, spin = body
    body = Body(*at_rows((state, matrix, mass), contacts.rows), spin)
    if contacts.slots == 1:
        return body
    return jax.tree.map(lambda c: c if isinstance(c, float) else c[None], body)
