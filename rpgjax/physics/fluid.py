"""Drag of a still fluid on moving links, as MuJoCo has it: that of boxes with the links' inertias.

A box of sides b, moving at v and turning at w along its own axes, feels by the fluid's viscosity mu the
force -3 pi d mu v and the torque -pi d^3 mu w, d the mean side, and by its density rho, along each axis,
the force -rho/2 b_j b_k |v_i| v_i and the torque -rho/64 b_i (b_j^4 + b_k^4) |w_i| w_i (MuJoCo's
documentation, "Passive forces", inertia model).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from brax import fluid as brax_fluid
from brax.base import System

from rpgjax.physics.components import (
    Component,
    Matrix,
    Vector,
    add,
    apply,
    constant,
    constant_vector,
    dot,
    fence,
    mul,
    neg,
    plus,
    scale,
)
from rpgjax.physics.ground import rotate
from rpgjax.physics.spatial import Spatial, applied, at, halves, spatial, sum_of


class Axis(NamedTuple):
    """One axis of the links' boxes, and how the fluid holds back what moves along and turns about it."""

    direction: Vector  # in the link's frame
    moving: tuple[Component, Component]  # force at unit speed: of viscosity, and of density
    turning: tuple[Component, Component]  # torque


Fluid = tuple[Axis, Axis, Axis]


def fluid(sys: System, links: list[int]) -> Fluid | None:
    """Constants of some links of a system; None where there is no fluid."""
    if not sys.enable_fluid:
        return None
    viscosity, density = float(sys.viscosity), float(sys.density)
    mass = np.asarray(sys.link.inertia.mass, float)[links]
    inertia = np.diagonal(np.asarray(sys.link.inertia.i, float)[links], axis1=1, axis2=2)
    squares = 6.0 * np.maximum(inertia.sum(1, keepdims=True) - 2.0 * inertia, 1e-12)
    sides = np.sqrt(squares / mass[:, None])
    mean = sides.mean(1)
    turn = np.asarray(sys.link.inertia.transform.rot, float)[links]
    turn = turn / np.linalg.norm(turn, axis=1, keepdims=True)

    def axis(i: int) -> Axis:
        a, b, c = sides[:, i], sides[:, i - 1], sides[:, i - 2]
        numbers = (
            3.0 * np.pi * mean * viscosity,
            0.5 * density * b * c,
            np.pi * mean**3 * viscosity,
            density * a * (b**4 + c**4) / 64.0,
        )
        columns = [constant(x[:, None]) for x in numbers]
        return Axis(
            direction=constant_vector(rotate(turn, np.eye(3)[i])),
            moving=(columns[0], columns[1]),
            turning=(columns[2], columns[3]),
        )

    return axis(0), axis(1), axis(2)


def drag(
    known: Fluid, matrix: Matrix, centre: Vector, velocity: Spatial, one: Component
) -> Spatial:
    """The fluid's wrench on links.

    Args:
        known: constants.
        matrix: rotation matrices of the links.
        centre: of mass, about the origin.
        velocity: of the links.
        one: see :func:`components.fence`.
    """
    angular, _ = halves(velocity)
    linear = at(velocity, centre)
    force: Vector = (0.0, 0.0, 0.0)
    torque: Vector = (0.0, 0.0, 0.0)
    for axis in known:
        along = fence(apply(matrix, axis.direction), one)
        force = plus(force, scale(_held_back(axis.moving, dot(linear, along)), along))
        torque = plus(torque, scale(_held_back(axis.turning, dot(angular, along)), along))
    return sum_of(applied(force, centre), spatial(torque, (0.0, 0.0, 0.0)))


def _held_back(by: tuple[Component, Component], speed: Component) -> Component:
    """Force, or torque, against a speed."""
    return mul(neg(speed), add(by[0], mul(by[1], jnp.abs(jnp.asarray(speed)))))


def repair_brax() -> None:
    """Lets Brax's own fluid forces run on JAX >= 0.10, where `clip` lost `a_min`."""

    class JaxNumpy:
        """`jax.numpy`, with the argument that `brax.fluid` still uses."""

        def __getattr__(self, attribute: str) -> Any:
            return getattr(jnp, attribute)

        def clip(self, x: Any, a_min: float) -> Any:
            return jnp.maximum(x, a_min)

    if brax_fluid.jp is jnp:
        brax_fluid.jp = JaxNumpy()
