"""Compliant contact: Brax's generalized coordinates, with ground and joint stops that give a little.

A hard contact has no derivative where it sets in, and an exploding one soon after. Here a contact is a
spring and a damper with friction that is viscous below a slip speed, and a joint's stop is a spring and a
damper as well. All of them, and the joints' damping, are integrated linearly implicitly,

    (M + dt (B + D)) qdd = tau - bias + J' f - B qd,

one Cholesky solve a step: stable at steps of 10 ms and more, with nothing to iterate. What a state loses
in a contact it does not pass on, and so gradients stay small.
"""

import copy
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from brax import kinematics
from brax.base import Motion, System, Transform
from brax.base import State as BaseState
from brax.envs.base import PipelineEnv

from rpgjax.physics import compliant_dense
from rpgjax.physics.batched_step import batched_step
from rpgjax.physics.compliance import Compliance, constants
from rpgjax.physics.compliant_step import compliant_physics
from rpgjax.physics.compliant_system import compliant_system
from rpgjax.physics.ground import UnsupportedSystemError
from rpgjax.types import Array

logger = logging.getLogger(__name__)

Step = Callable[[BaseState, Array], BaseState]


def compliant(env: PipelineEnv, compliance: Compliance = Compliance()) -> PipelineEnv:
    """A copy of an environment on generalized coordinates whose contacts and stops give a little.

    A physics step is the environment's own step in as few parts as `compliance.longest_step` allows, each
    recomputed in the backward pass. The pipeline's state is Brax's base state: q, qd, x and xd. Systems
    with fluid, or with contacts between links, take a slower path.

    Raises:
        ValueError: the environment was not built for `generalized`.
    """
    if env.backend != "generalized":
        raise ValueError(f"compliant contact wants a generalized environment, not {env.backend}")
    parts = max(1, int(np.ceil(float(env.dt) / compliance.longest_step - 1e-6)))
    timestep = float(env.dt) / parts
    try:
        step = fast_step(env.sys, compliance, timestep, parts)
    except UnsupportedSystemError as error:
        logger.info("the slow path of compliant contact for %s: %s", type(env).__name__, error)
        step = dense_step(env.sys, compliance, timestep, parts)

    def pipeline_init(q: Array, qd: Array, act: Any = None, ctrl: Any = None) -> BaseState:
        return _state(env.sys, q, qd)

    env = copy.copy(env)
    env._backend = "compliant"
    env.pipeline_init, env.pipeline_step = pipeline_init, step
    return env


def fast_step(sys: System, compliance: Compliance, timestep: float, parts: int) -> Step:
    """An environment's step by `rpgjax.physics.compliant_step`.

    Raises:
        UnsupportedSystemError: the system has something that it does not know.
    """
    step = batched_step(compliant_physics(compliant_system(sys, compliance, timestep)), parts)

    def pipeline_step(pipeline_state: BaseState, action: Array) -> BaseState:
        now = pipeline_state.q[:, None], pipeline_state.qd[:, None]
        out = jax.tree.map(lambda x: x[..., 0], step(now, action[:, None]))
        return BaseState(
            q=out.q,
            qd=out.qd,
            x=Transform(pos=out.position, rot=out.rotation),
            xd=Motion(ang=out.angular, vel=out.velocity),
            contact=None,
        )

    return pipeline_step


def dense_step(sys: System, compliance: Compliance, timestep: float, parts: int) -> Step:
    """An environment's step by `rpgjax.physics.compliant_dense`."""
    known = constants(sys, compliance)

    def pipeline_step(pipeline_state: BaseState, action: Array) -> BaseState:
        @jax.checkpoint
        def part(q: Array, qd: Array) -> tuple[Array, Array]:
            return compliant_dense.substep(sys, known, compliance, timestep, q, qd, action)

        start = pipeline_state.q, pipeline_state.qd
        q, qd = jax.lax.scan(lambda now, _: (part(*now), None), start, None, parts)[0]
        return _state(sys, q, qd)

    return pipeline_step


def _state(sys: System, q: Array, qd: Array) -> BaseState:
    x, xd = kinematics.forward(sys, q, qd)
    return BaseState(q=q, qd=qd, x=x, xd=xd, contact=None)
