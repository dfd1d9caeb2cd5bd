"""From Brax's spring state to components and back: every field from the state of the links."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.physics.components import (
    Component,
    Matrix,
    Quaternion,
    Vector,
    add,
    apply,
    apply_transposed,
    conjugate,
    cross,
    dot,
    fence,
    mul,
    plus,
    quaternion_product,
    rotation,
    scale,
    stack,
    sub,
)
from rpgjax.physics.rows import take
from rpgjax.physics.spring import WORLD, Links
from rpgjax.physics.spring_joints import Bodies, Relation, euler_angle, relate
from rpgjax.physics.spring_system import Layout, SpringSystem


class Packed(NamedTuple):
    """The dynamic part of Brax's spring state, links in Brax's order."""

    position: jax.Array  # (links, 3, batch)
    rotation: jax.Array  # (links, 4, batch)
    velocity: jax.Array  # (links, 3, batch)
    angular: jax.Array  # (links, 3, batch)


class Outputs(NamedTuple):
    """Fields of Brax's spring state; transforms and motions are (links, components, batch)."""

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


def unpack(system: SpringSystem, state: Packed) -> Links:
    """Splits Brax's arrays into components by group."""
    result = []
    for joints in system.joints:
        parts = []
        for field in state:
            rows = take(jnp.moveaxis(field, 1, 0), joints.links)
            parts.append(tuple(jnp.unstack(rows)))
        result.append(Bodies(*parts))
    return tuple(result)


def pack(system: SpringSystem, links: Links) -> Packed:
    """The inverse of :func:`unpack`, and its transpose."""
    fields = []
    for parts in zip(*links, strict=True):
        rows = jnp.concatenate([stack(part, part[0]) for part in parts], axis=1)
        fields.append(jnp.moveaxis(take(rows, system.layout.place), 0, 1))
    return Packed(*fields)


def _bodies(rows: jax.Array) -> Bodies:
    """Components of (13, links, batch)."""
    c = jnp.unstack(rows)
    return Bodies((c[0], c[1], c[2]), (c[3], c[4], c[5], c[6]), (*c[7:10],), (*c[10:13],))


def _pick(
    components: Sequence[Component], links: Sequence[int], like: jax.Array
) -> list[jax.Array]:
    """Rows of some links of components in Brax's order."""
    return list(jnp.unstack(take(stack(components, like), links)))


def _coordinates(
    layout: Layout,
    joint: Relation,
    anchor: Matrix,
    parent: Matrix,
    place: tuple[Sequence[Component], Sequence[Component]],
    motion: tuple[Vector, Vector],
) -> tuple[jax.Array, jax.Array]:
    """Brax's ``q`` and ``qd``.

    Args:
        layout: constants.
        joint: every link and its parent.
        anchor: rotation of the joints' frames on the parents.
        parent: rotations of the parents.
        place: positions and rotations of the links in the frames of their joints.
        motion: velocities and angular velocities of the links in the frames of their joints.
    """
    like = jnp.asarray(joint.offset[0])
    velocity, angular = motion
    inner = apply_transposed(rotation((*place[1],)), angular)
    q, qd, q_index, qd_index = [], [], [*layout.free_q], [*layout.free_qd]
    if layout.free:
        q += _pick([*place[0], *place[1]], layout.free, like)
        qd += _pick([*velocity, *inner], layout.free, like)
    # For joints to the world Brax turns the velocity into the child's frame, not the axis.
    outer = [
        add(mul(layout.to_world, a), mul(sub(1.0, layout.to_world), b))
        for a, b in zip(inner, angular, strict=True)
    ]
    parity = layout.frames.parity
    axes = [*joint.child_axes[:2], scale(parity, joint.child_axes[2])]
    for i, turns in enumerate(layout.turns):
        if turns.links:
            f, c = joint.parent_axes, joint.child_axes
            picked = _pick([x for axis in (*f, *c) for x in axis], turns.links, like)
            vectors = [(picked[k], picked[k + 1], picked[k + 2]) for k in range(0, 18, 3)]
            sign = parity[list(turns.links)] if isinstance(parity, np.ndarray) else parity
            q.append(jnp.asarray(euler_angle(vectors[:3], vectors[3:], sign, i)))
            rate = dot(apply_transposed(anchor, axes[i]), outer)
            qd += _pick([rate], turns.links, like)
            q_index += turns.q
            qd_index += turns.qd
    if layout.slides.links:
        links = layout.slides.links
        picked = _pick(
            [*joint.offset, *joint.velocity, *(x for row in parent for x in row)], links, like
        )
        matrix = ((*picked[6:9],), (*picked[9:12],), (*picked[12:15],))
        axis = apply(matrix, layout.slides.axis)
        q.append(jnp.asarray(dot(picked[:3], axis)))
        qd.append(jnp.asarray(dot(picked[3:6], axis)))
        q_index += layout.slides.q
        qd_index += layout.slides.qd
    return (
        take(jnp.concatenate(q), np.argsort(q_index).tolist()),
        take(jnp.concatenate(qd), np.argsort(qd_index).tolist()),
    )


def _world_inertia(system: SpringSystem, quaternion: Quaternion, one: Component) -> list[Component]:
    """Inverse inertia in the world frame, nine components."""
    frames = system.layout.frames
    if frames.inverse_inertia is None:
        return [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    matrix = fence(rotation(quaternion), one)
    axes = fence([apply(matrix, axis) for axis in frames.inertia_axes], one)
    weighted = [scale(k, a) for k, a in zip(frames.inverse_inertia, axes, strict=True)]
    return [
        dot([axis[i] for axis in axes], [axis[j] for axis in weighted])
        for i in range(3)
        for j in range(3)
    ]


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
        one: the number 1 where XLA is to keep shared values, see :func:`components.fence`.
    """
    layout, frames = system.layout, system.layout.frames
    groups = [stack([c for field in group for c in field], group.position[0]) for group in links]
    world = stack([c for field in WORLD for c in field], groups[0][0, :1])
    rows = jnp.concatenate([*groups, world], axis=1)
    body, parent = _bodies(take(rows, layout.place)), _bodies(take(rows, layout.parents))
    like = body.position[0]
    matrix, parent_matrix = fence((rotation(body.rotation), rotation(parent.rotation)), one)
    joint = relate(frames, body, matrix, parent, parent_matrix, one)
    local = rotation(frames.parent_rotation)
    anchor_matrix = tuple(apply_transposed(local, row) for row in parent_matrix)
    anchor = quaternion_product(parent.rotation, frames.parent_rotation)
    child_anchor = quaternion_product(body.rotation, frames.child_rotation)
    arm = apply(matrix, frames.origin)
    position, velocity, angular = (
        apply_transposed(anchor_matrix, v) for v in (joint.offset, joint.velocity, joint.angular)
    )
    turned = quaternion_product(conjugate(anchor), child_anchor)
    position, velocity, angular, turned, arm = fence(
        (position, velocity, angular, turned, arm), one
    )
    q, qd = _coordinates(
        layout, joint, anchor_matrix, parent_matrix, (position, turned), (velocity, angular)
    )
    last = [stack(quaternion, quaternion[0]) for quaternion in last_rotations]
    before = jnp.unstack(take(jnp.concatenate(last, axis=1), layout.place))

    def brax(components: Sequence[Component]) -> jax.Array:
        return jnp.moveaxis(stack(components, like), 0, 1)

    return Outputs(
        q=q,
        qd=qd,
        x=(brax(plus(body.position, arm)), brax(body.rotation)),
        xd=(brax(body.angular), brax(plus(body.velocity, cross(body.angular, arm)))),
        x_i=(brax(body.position), brax(body.rotation)),
        xd_i=(brax(body.angular), brax(body.velocity)),
        j=(brax(position), brax(turned)),
        jd=(brax(angular), brax(velocity)),
        a_p=(brax(plus(parent.position, joint.parent_arm)), brax(anchor)),
        a_c=(brax(plus(body.position, joint.child_arm)), brax(child_anchor)),
        i_inv=brax(_world_inertia(system, (*before,), one)),
    )
