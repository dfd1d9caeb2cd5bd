"""Compliant contact: Brax's generalized coordinates, with ground and joint stops that give a little.

A hard contact has no derivative where it sets in, and an exploding one soon after. Here a contact is a
spring and a damper with friction that is viscous below a slip speed, and a joint's stop is a spring and a
damper as well. All of them, and the joints' damping, are integrated linearly implicitly,

    (M + dt (B + D)) qdd = tau - bias + J' f - B qd,

one solve a step, by a pass over the tree of links: stable at steps of 10 ms and more, with nothing to
iterate. What a state loses in a contact it does not pass on, and so gradients stay small.
"""

import copy
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from brax import kinematics
from brax.base import Motion, System, Transform
from brax.base import State as BaseState
from brax.envs.base import Env, PipelineEnv
from brax.io import mjcf

from rpgjax.physics import compliant_dense
from rpgjax.physics.backends import for_this_system, refuse_wrappers
from rpgjax.physics.batched_step import batched_step
from rpgjax.physics.compliance import Compliance, constants
from rpgjax.physics.compliant_step import Outputs, compliant_physics, outputs
from rpgjax.physics.compliant_system import compliant_system
from rpgjax.physics.fluid import repair_brax
from rpgjax.physics.ground import UnsupportedSystemError
from rpgjax.types import Array

logger = logging.getLogger(__name__)


class Pipeline(NamedTuple):
    """What an environment asks of its physics."""

    init: Callable[[Array, Array], BaseState]  # q and qd
    step: Callable[[BaseState, Array], BaseState]  # state, action


def compliant(env: Env, compliance: Compliance = Compliance()) -> PipelineEnv:
    """A copy of an environment on generalized coordinates whose contacts and stops give a little.

    A physics step is the environment's own step in as few parts as `compliance.longest_step` allows, each
    recomputed in the backward pass. The pipeline's state is Brax's base state: q, qd, x and xd. Systems
    with contacts between links, but for capsules on an arm and on what it pushes, take a slower path.

    Raises:
        ValueError: the environment was not built for `generalized`, or there are wrappers around it.
        NotImplementedError, RuntimeError: its model has something that Brax does not know.
    """
    refuse_wrappers(env, "compliant")
    repair_brax()
    if env.backend != "generalized":
        raise ValueError(f"compliant contact wants a generalized environment, not {env.backend}")
    if env.sys.mj_model is not None:
        mjcf.validate_model(env.sys.mj_model)  # Brax's own pipelines ask when they begin
    parts = max(1, int(np.ceil(float(env.dt) / compliance.longest_step - 1e-6)))
    timestep = float(env.dt) / parts
    try:
        pipeline = fast_pipeline(env.sys, compliance, timestep, parts)
    except UnsupportedSystemError as error:
        logger.info("the slow path of compliant contact for %s: %s", type(env).__name__, error)
        pipeline = dense_pipeline(env.sys, compliance, timestep, parts)

    def pipeline_init(q: Array, qd: Array, act: Any = None, ctrl: Any = None) -> BaseState:
        return pipeline.init(q, qd)

    env = copy.copy(env)
    env._backend = "compliant"
    env.pipeline_init = for_this_system(env, pipeline_init)
    env.pipeline_step = for_this_system(env, pipeline.step)
    return env


def fast_pipeline(sys: System, compliance: Compliance, timestep: float, parts: int) -> Pipeline:
    """By `rpgjax.physics.compliant_step`; a step is `parts` of `timestep` seconds.

    Raises:
        UnsupportedSystemError: the system has something that it does not know.
    """
    system = compliant_system(sys, compliance, timestep)
    batched = batched_step(compliant_physics(system), parts)

    def told(out: Outputs) -> BaseState:
        out = jax.tree.map(lambda x: x[..., 0], out)  # a batch of one
        x = Transform(pos=out.position, rot=out.rotation)
        xd = Motion(ang=out.angular, vel=out.velocity)
        return BaseState(q=out.q, qd=out.qd, x=x, xd=xd, contact=None)

    def init(q: Array, qd: Array) -> BaseState:
        return told(outputs(system, (q[:, None], qd[:, None]), ()))

    def step(state: BaseState, action: Array) -> BaseState:
        return told(batched((state.q[:, None], state.qd[:, None]), action[:, None]))

    return Pipeline(init, step)


def dense_pipeline(sys: System, compliance: Compliance, timestep: float, parts: int) -> Pipeline:
    """By `rpgjax.physics.compliant_dense`; a step is `parts` of `timestep` seconds."""
    known = constants(sys, compliance)

    def init(q: Array, qd: Array) -> BaseState:
        x, xd = kinematics.forward(sys, q, qd)
        return BaseState(q=q, qd=qd, x=x, xd=xd, contact=None)

    def step(state: BaseState, action: Array) -> BaseState:
        @jax.checkpoint
        def part(q: Array, qd: Array) -> tuple[Array, Array]:
            return compliant_dense.substep(sys, known, compliance, timestep, q, qd, action)

        start = state.q, state.qd
        return init(*jax.lax.scan(lambda now, _: (part(*now), None), start, None, parts)[0])

    return Pipeline(init, step)
