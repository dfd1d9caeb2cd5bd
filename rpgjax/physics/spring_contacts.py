"""Contacts as velocity impulses: what the ground does to the links of the spring physics."""

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.physics.components import (
    Component,
    Matrix,
    Vector,
    add,
    apply,
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
from rpgjax.physics.ground import Contacts
from rpgjax.physics.rows import accumulate, take
from rpgjax.physics.spring_joints import Bodies


def contact_impulses(
    contacts: Contacts,
    spin: Component,
    inverse_mass: Component,
    bodies: Bodies,
    matrix: Matrix,
    baumgarte: float,
    one: Component,
) -> tuple[Vector, Vector]:
    """Impulse and angular impulse on a group of links, averaged over the contacts of each.

    Args:
        contacts: constants of the contacts.
        spin: what the contacts see of the inverse inertia.
        inverse_mass: of the links.
        bodies: links as they stand, with the velocities after this substep's joint forces.
        matrix: rotation matrices of the links.
        baumgarte: speed per metre of penetration at which bodies are pushed apart.
        one: the number 1 where XLA is to keep shared values, see :func:`components.fence`.
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

    arm, slip = fence((arm, minus(velocity, scale(approach, n))), one)
    lever = cross(arm, n)
    push = -mul(contacts.restitution, approach) - mul(baumgarte, distance)
    push = push / add(inverse_mass, mul(spin, dot(lever, lever)))

    speed = safe_length(slip)
    direction = fence(scale(-1.0 / (1e-6 + speed), slip), one)
    lever = cross(arm, direction)
    drag = speed / add(inverse_mass, mul(spin, dot(lever, lever)))
    drag = jnp.minimum(drag, mul(contacts.friction, push))

    touching = (distance < 0.0) & (approach < 0.0) & (push > 0.0)
    if contacts.exists is not None:
        touching = touching & (contacts.exists > 0.0)
    push, drag = fence((push, drag), one)
    push = jnp.where(touching, push, 0.0)
    drag = jnp.where(touching & (speed > 1e-3), drag, 0.0)
    impulse = fence(plus(scale(push, n), scale(drag, direction)), one)
    result = fence((impulse, cross(arm, impulse)), one)
    if contacts.slots > 1:
        touches = jnp.maximum(jnp.sum(touching.astype(distance.dtype), axis=0), 1.0)
        result = jax.tree.map(lambda c: jnp.sum(c, axis=0) / touches, result)
    if rows is not None:
        result = jax.tree.map(lambda c: accumulate(jnp.asarray(c), rows, count), result)
    return result
