"""MJX in reverse mode: its own forward pass, differentiated at the constraint solver's optimum.

MJX finds the constrained acceleration with a `while_loop`, which JAX cannot reverse. What the loop
returns is the minimum of a convex function (Todorov, ICRA 2014), so its derivative follows from the
condition of optimality alone, by the implicit function theorem, however the minimum was found:

    F(a; theta) = M a - tau - J^T f(J a - a_ref; D, ...) = 0,    da/dtheta = -(dF/da)^-1 dF/dtheta

with acceleration a (`qacc`), mass matrix M, smooth forces tau and constraint forces f. Values are MJX's
own, to the bit. The derivative is exact where the solver has converged and away from the points where
a constraint becomes active.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from mujoco import mjx
from mujoco.mjx._src.solver import Context  # MJX's law of constraint forces has no public name

from rpgjax.types import Array


class Problem(NamedTuple):
    """What the solver's optimum depends on; the fields' names are MJX's."""

    mass_matrix: Array  # M, dense or sparse as the model has it
    qfrc_smooth: Array  # tau (nv,)
    efc_J: Array  # (nefc, nv)
    efc_aref: Array  # (nefc,)
    efc_D: Array  # (nefc,)
    efc_frictionloss: Array  # (nefc,)
    friction: Array  # (contact, 5)


class Solution(NamedTuple):
    """What the solver returns."""

    qacc: Array  # (nv,)
    qfrc_constraint: Array  # (nv,)
    efc_force: Array  # (nefc,)


def solve(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.solve` with a reverse-mode derivative; the same values to the bit.

    A model that asks for a single solver iteration keeps MJX's own derivative: that iteration has no
    loop, and need not end at the optimum.

    Args:
        model: an MJX model of the JAX implementation.
        data: after `mjx.fwd_acceleration`, one environment.
    """
    if model.opt.iterations == 1:
        return mjx.solve(model, data)
    solved = mjx.solve(model, jax.lax.stop_gradient(data))
    found = Solution(solved.qacc, solved.qfrc_constraint, solved._impl.efc_force)
    impl = data._impl
    problem = Problem(
        impl.M,
        data.qfrc_smooth,
        impl.efc_J,
        impl.efc_aref,
        impl.efc_D,
        impl.efc_frictionloss,
        impl.contact.friction,
    )
    found = optimum(problem, found, (model, jax.lax.stop_gradient(data)))
    return data.tree_replace(
        {
            "qacc": found.qacc,
            "qfrc_constraint": found.qfrc_constraint,
            "_impl.efc_force": found.efc_force,
        }
    )


Constants = tuple[mjx.Model, mjx.Data]


def forces(problem: Problem, qacc: Array, constants: Constants) -> tuple[Array, Array, Array]:
    """MJX's constraint forces at an acceleration, and F: (nv,), (nefc,), (nv,)."""
    model, data = constants
    changes = {
        "qacc": qacc,
        "qfrc_smooth": problem.qfrc_smooth,
        "_impl.M": problem.mass_matrix,
        "_impl.efc_J": problem.efc_J,
        "_impl.efc_aref": problem.efc_aref,
        "_impl.efc_D": problem.efc_D,
        "_impl.efc_frictionloss": problem.efc_frictionloss,
        "_impl.contact.friction": problem.friction,
    }
    law = Context.create(model, data.tree_replace(changes), grad=False)
    imbalance = law.Ma - problem.qfrc_smooth - law.qfrc_constraint
    return law.qfrc_constraint, law.efc_force, imbalance


@jax.custom_vjp
def optimum(problem: Problem, found: Solution, constants: Constants) -> Solution:
    """`found`, as a function of the problem that it solves."""
    return found


def _optimum_forward(
    problem: Problem, found: Solution, constants: Constants
) -> tuple[Solution, Any]:
    return found, (problem, found.qacc, constants)


@jax.default_matmul_precision("highest")  # it is traced outside of the step's own
def _optimum_backward(saved: Any, bar: Solution) -> tuple[Problem, Solution, None]:
    problem, qacc, constants = saved
    (_, _, imbalance), pull = jax.vjp(lambda p, a: forces(p, a, constants), problem, qacc)
    still = jnp.zeros_like(imbalance)
    through_law, law_bar = pull((bar.qfrc_constraint, bar.efc_force, still))
    hessian = jax.jacfwd(lambda a: forces(problem, a, constants)[2])(qacc)
    factor = jax.scipy.linalg.cho_factor(0.5 * (hessian + hessian.T))
    adjoint = jax.scipy.linalg.cho_solve(factor, bar.qacc + law_bar)
    none = jax.tree.map(jnp.zeros_like, (bar.qfrc_constraint, bar.efc_force))
    through_optimum, _ = pull((*none, -adjoint))
    problem_bar = jax.tree.map(jnp.add, through_law, through_optimum)
    return problem_bar, jax.tree.map(jnp.zeros_like, bar), None


optimum.defvjp(_optimum_forward, _optimum_backward)


def step(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.step` with `solve` in place of `mjx.solve`, one environment.

    Raises:
        ValueError: an integrator other than Euler and implicitfast.
    """
    data = mjx.fwd_position(model, data)
    data = mjx.sensor_pos(model, data)
    data = mjx.fwd_velocity(model, data)
    data = mjx.sensor_vel(model, data)
    data = mjx.fwd_actuation(model, data)
    data = mjx.fwd_acceleration(model, data)
    if data._impl.efc_J.size == 0:
        data = data.replace(qacc=data.qacc_smooth)
    else:
        data = mjx.sensor_acc(model, solve(model, data))
    if model.opt.integrator == mjx.IntegratorType.EULER:
        return mjx.euler(model, data)
    if model.opt.integrator == mjx.IntegratorType.IMPLICITFAST:
        return mjx.implicit(model, data)
    raise ValueError(
        f"the mjx backend has no reverse mode for the integrator {model.opt.integrator.name}; "
        "use Euler or implicitfast"
    )
