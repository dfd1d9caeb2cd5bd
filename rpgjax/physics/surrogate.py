"""One dynamics forward, another backward: exact steps with the derivative of smooth ones.

A policy is to be trained for physics whose gradient is of no use. Each step is the exact one; its
vector-Jacobian product is that of a smooth step from the same place under the same action. No error of
the smooth physics adds up over a window, as the next step starts from where the exact one led.
"""

import copy

import jax
import jax.numpy as jnp
import numpy as np
from brax.base import State
from brax.envs.base import Env, PipelineEnv

from rpgjax.physics.backends import for_this_system, refuse_wrappers
from rpgjax.types import Array


def surrogate(exact: Env, smooth: Env) -> PipelineEnv:
    """A copy of `exact` whose steps have the derivative of `smooth`'s.

    The gradient goes through q and qd of the pipeline's state alone; observations and rewards may be
    functions of q, qd, x and xd.

    Args:
        exact: the `PipelineEnv` that is stepped; its physics needs no derivative.
        smooth: the same task on physics with one, whose state is made of q and qd
            (`rpgjax.physics.compliant`).

    Raises:
        ValueError: their steps are not equally long, or there are wrappers around them.
    """
    for env in (exact, smooth):
        refuse_wrappers(env, "surrogate")
    if not np.isclose(float(exact.dt), float(smooth.dt), rtol=1e-3):
        raise ValueError(
            f"a step of the exact physics is {float(exact.dt):g} s, of the smooth {float(smooth.dt):g} s"
        )

    @jax.custom_vjp
    def step(q: Array, qd: Array, action: Array, state: State) -> State:
        return exact.pipeline_step(state.replace(q=q, qd=qd), action)

    def forward(q: Array, qd: Array, action: Array, state: State):
        return step(q, qd, action, state), (q, qd, action)

    def backward(start: tuple[Array, Array, Array], cotangent: State):
        def smooth_step(q: Array, qd: Array, action: Array):
            after = smooth.pipeline_step(smooth.pipeline_init(q, qd), action)
            return after.q, after.qd, after.x, after.xd

        _, pull = jax.vjp(smooth_step, *start)
        return *pull((cotangent.q, cotangent.qd, cotangent.x, cotangent.xd)), None

    step.defvjp(forward, backward)

    def pipeline_step(pipeline_state: State, action: Array) -> State:
        rest = jax.lax.stop_gradient(pipeline_state)
        return step(pipeline_state.q, pipeline_state.qd, action, rest)

    env = copy.copy(exact)
    env.pipeline_step = for_this_system(env, pipeline_step)
    return env


def body_of(exact: PipelineEnv, smooth: PipelineEnv) -> PipelineEnv:
    """A copy of `smooth` with the masses, inertias and motors of what `exact` steps: the same robot.

    Brax's spring and positional physics scale masses and inertias, have gears of their own for some tasks, no
    armature and no springs in joints; the slopes of the model's own body are those of another robot. They
    also damp joints by numbers of their own, in substeps; one implicit step with these damps motors too much.
    Joint stops stay as stiff and damped as for the model's own body.

    Raises:
        ValueError: `smooth` has its physics already: it is for `rpgjax.physics.compliant` to be given this.
    """
    if "pipeline_step" in vars(smooth):
        raise ValueError("body_of comes before compliant: the physics of this one is made already")
    sys = exact.sys
    if exact.backend in ("spring", "positional"):
        mass, moments = sys.link.inertia.mass, jax.vmap(jnp.diagonal)(sys.link.inertia.i)
        sys = sys.tree_replace(
            {
                "link.inertia.mass": mass ** (1 - sys.spring_mass_scale),
                "link.inertia.i": jax.vmap(jnp.diag)(moments ** (1 - sys.spring_inertia_scale)),
                "dof.armature": jnp.zeros_like(sys.dof.armature),
                "dof.stiffness": jnp.zeros_like(sys.dof.stiffness),
            }
        )
    env = copy.copy(smooth)
    env.sys = sys.tree_replace({"opt.timestep": smooth.sys.opt.timestep})
    return env
