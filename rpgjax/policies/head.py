"""The contract of a policy head.

A head is four pure functions of one example; batch them with `jax.vmap`. Observations are already
normalised. Actions lie in [-1, 1], Brax's convention.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from rpgjax.types import Array, Key, Params

Carry = Any  # a pytree that lives for one episode: a latent, a queue of planned actions, or ()


class PolicySample(NamedTuple):
    """One action drawn from a head, and how it came about.

    A head that plans several actions at once decides only now and then: `decision` is the whole
    pre-tanh output of the latest decision, `is_decision` tells whether it was made at this step.
    """

    action: Array  # (action,) in [-1, 1]
    pre_squash: Array  # (action,) before tanh
    log_prob: Array | None  # () log-density of `action`, where the head has a tractable one
    decision: Array  # (decision,) target of flow matching; equals pre_squash in plain heads
    is_decision: Array  # () bool
    latent: Array | None = None  # (z,) of the episode, where the head has one


class PolicyHead(NamedTuple):
    """A policy as pure functions. The carry lives for one episode."""

    init: Callable[[Key], Params]
    reset: Callable[[Params, Array, Key], Carry]
    sample: Callable[[Params, Carry, Array, Key], tuple[Carry, PolicySample]]  # differentiable
    mode: Callable[[Params, Carry, Array], tuple[Carry, Array]]  # -> carry, action (action,)


def squash(pre_squash: Array, log_prob: Array | None = None) -> PolicySample:
    """The sample of a head that decides at every step: action = tanh(pre_squash)."""
    return PolicySample(
        action=jnp.tanh(pre_squash),
        pre_squash=pre_squash,
        log_prob=log_prob,
        decision=pre_squash,
        is_decision=jnp.bool_(True),
    )


def no_carry(params: Params, observation: Array, key: Key) -> tuple[()]:
    """`reset` of a head without memory."""
    return ()
