"""Makes the physics of a Brax environment cheap to differentiate."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import jax
from brax.base import Motion, System, Transform
from brax.envs.base import Env, PipelineEnv, Wrapper
from brax.mjx import pipeline as brax_mjx
from brax.spring import pipeline as brax_spring
from brax.spring.base import State

from rpgjax.physics import implicit_mjx
from rpgjax.physics.batched_step import batched_step
from rpgjax.physics.fluid import repair_brax
from rpgjax.physics.ground import UnsupportedSystemError
from rpgjax.physics.spring_state import Packed
from rpgjax.physics.spring_step import spring_physics
from rpgjax.physics.spring_system import spring_system

logger = logging.getLogger(__name__)


def unsupported(sys: System) -> str | None:
    """Why the fast spring physics cannot step a system; None where it can."""
    try:
        spring_system(sys)
    except UnsupportedSystemError as error:
        return str(error)
    return None


def supported(sys: System) -> bool:
    """Whether the fast spring physics can step a system."""
    return unsupported(sys) is None


def refuse_wrappers(env: Env, what: str) -> None:
    """Raises ValueError where `what` would change the physics of a wrapper, which nothing steps."""
    if isinstance(env, Wrapper):
        raise ValueError(
            f"{what} wants a {type(env.unwrapped).__name__} without wrappers around it: wrap what comes back"
        )


def has_own_step(env: PipelineEnv) -> bool:
    """Whether an environment steps by neither its backend nor what `differentiable` made of it."""
    if (step := vars(env).get("pipeline_step")) is not None:
        return not hasattr(step, "made_by_differentiable")
    return type(env).pipeline_step is not PipelineEnv.pipeline_step


def for_this_system(env: PipelineEnv, physics: Callable[..., Any]) -> Callable[..., Any]:
    """`physics`, which was worked out for an environment's system, refusing (ValueError) any later one.

    So Brax's domain randomisation changes it; only resets and observations would see the new one.
    """
    sys = env.sys

    def checked(*arguments: Any, **named: Any) -> Any:
        if env.sys is not sys:
            raise ValueError(
                f"the physics of this {type(env.unwrapped).__name__} is that of the system that it was "
                "made with: change sys first, then ask for differentiable physics"
            )
        return physics(*arguments, **named)

    return checked


def _fast_step(env: PipelineEnv) -> Callable[[State, jax.Array], State]:
    """Brax's spring ``pipeline_step`` on our own physics."""
    step = batched_step(spring_physics(spring_system(env.sys)), env._n_frames)

    def pipeline_step(pipeline_state: State, action: jax.Array) -> State:
        x_i, xd_i = pipeline_state.x_i, pipeline_state.xd_i
        state = jax.tree.map(lambda x: x[..., None], Packed(x_i.pos, x_i.rot, xd_i.vel, xd_i.ang))
        out = jax.tree.map(lambda x: x[..., 0], step(state, action[:, None]))
        return pipeline_state.replace(
            q=out.q,
            qd=out.qd,
            x=Transform(*out.x),
            xd=Motion(*out.xd),
            x_i=Transform(*out.x_i),
            xd_i=Motion(*out.xd_i),
            j=Transform(*out.j),
            jd=Motion(*out.jd),
            a_p=Transform(*out.a_p),
            a_c=Transform(*out.a_c),
            i_inv=out.i_inv.reshape(-1, 3, 3),
        )

    return pipeline_step


def _checkpointed_step(env: PipelineEnv) -> Callable[[Any, jax.Array], Any]:
    """Brax's own ``pipeline_step`` with every physics substep recomputed in the backward pass."""

    def pipeline_step(pipeline_state: Any, action: jax.Array) -> Any:
        @jax.checkpoint
        def substep(state: Any, action: jax.Array) -> Any:
            return env._pipeline.step(env.sys, state, action, env._debug)

        def body(state: Any, _: None) -> tuple[Any, None]:
            return substep(state, action), None

        return jax.lax.scan(body, pipeline_state, None, env._n_frames)[0]

    return pipeline_step


def _mjx_step(env: PipelineEnv) -> Callable[[Any, jax.Array], Any]:
    """Brax's MJX ``pipeline_step``, differentiable through the constraint solver."""

    def pipeline_step(pipeline_state: Any, action: jax.Array) -> Any:
        def body(data: Any, _: None) -> tuple[Any, None]:
            return jax.checkpoint(implicit_mjx.step)(env.sys, data), None

        data = pipeline_state.replace(ctrl=action)
        data = jax.lax.scan(body, data, None, env._n_frames)[0]
        # Brax's own fields, once at the end: no substep reads them. From brax.mjx.pipeline.step.
        offset = data.xpos[1:] - data.subtree_com[env.sys.body_rootid[1:]]
        spatial = Motion(vel=data.cvel[1:, 3:], ang=data.cvel[1:, :3])
        if data.ncon > 0:
            data = data.replace(contact=brax_mjx._reformat_contact(env.sys, data._impl.contact))
        return data.replace(
            q=data.qpos,
            qd=data.qvel,
            x=Transform(pos=data.xpos[1:], rot=data.xquat[1:]),
            xd=Transform.create(pos=offset).vmap().do(spatial),
        )

    return pipeline_step


def differentiable(env: Env) -> Env:
    """Returns a copy of an environment whose physics is cheap to differentiate.

    The spring backend gets our own implementation of the same physics (same values and gradients up to
    rounding) where :func:`supported`; the mjx backend its own step with a derivative of the constraint
    solver (`rpgjax.physics.implicit_mjx`). Every other Brax environment keeps Brax's step. All are
    rematerialised per physics substep. Reverse mode only. An environment that steps by something else, a
    `pipeline_step` of its own, `compliant` or `surrogate`, comes back as it is.

    The fast path reads the centre-of-mass fields ``x_i`` and ``xd_i`` of the state and recomputes the
    rest, so the state must be consistent: made by ``pipeline_init`` or by an earlier step.

    Args:
        env: any Brax environment, possibly wrapped; one without a pipeline comes back as it is.
    """
    if isinstance(env, Wrapper):
        inner = differentiable(env.env)
        if inner is env.env:
            return env
        env = copy.copy(env)
        env.env = inner
        return env
    if not isinstance(env, PipelineEnv) or has_own_step(env):
        return env
    repair_brax()
    env = copy.copy(env)
    step = _mjx_step(env) if env._pipeline is brax_mjx else _checkpointed_step(env)
    if env._pipeline is brax_spring and not env._debug:
        try:
            step = for_this_system(env, _fast_step(env))
        except UnsupportedSystemError as error:
            logger.info("brax's own spring physics for %s: %s", type(env).__name__, error)
    step.made_by_differentiable = True  # and may be made anew, of another system
    env.pipeline_step = step
    return env
