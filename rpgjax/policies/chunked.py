"""Action chunks: one decision of a head is `length` actions, executed open loop.

The papers say that a variant acts in chunks; the details here are our interpretation. Any head made
for `length * action` dimensions can be chunked, a flow then integrates one ODE for a whole chunk.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from rpgjax.policies.head import Carry, PolicyHead, PolicySample
from rpgjax.types import Array, Key, Params


class Plan(NamedTuple):
    """What a chunked head carries through an episode."""

    inner: Carry  # the inner head's own carry
    actions: Array  # (length, action) in [-1, 1]
    decision: Array  # (length * action,) before tanh
    position: (
        Array  # () int32, how many actions of the plan were executed; `length` asks for a new one
    )


def chunked(head: PolicyHead, length: int) -> PolicyHead:
    """`head`, which decides over `length * action` dimensions, as a head over `action` dimensions.

    Every `length` steps, and at the start of an episode, the inner head decides once; the actions in
    between are read off the plan. `chunked(head, 1)` acts exactly as `head`. A chunk has no density
    for a single action: `log_prob` is None where length > 1.

    Raises:
        ValueError: length < 1, the inner head's action is no multiple of it, or the head has a latent.
    """
    if length < 1:
        raise ValueError(f"chunk_length must be at least 1, not {length}")
    if length == 1:
        return head

    def reset(params: Params, observation: Array, key: Key) -> Plan:
        inner = head.reset(params, observation, key)
        _, drawn = jax.eval_shape(head.sample, params, inner, observation, key)
        action = drawn.action
        if drawn.latent is not None:
            raise ValueError("a latent goes around chunks: latent(chunked(head, length), prior)")
        if action.shape[0] % length:
            raise ValueError(
                f"a head of {action.shape[0]} dimensions can't be cut into {length} actions"
            )
        return Plan(
            inner=inner,
            actions=jnp.zeros((length, action.shape[0] // length), action.dtype),
            decision=jnp.zeros(action.shape, action.dtype),
            position=jnp.int32(length),
        )

    def advance(plan: Plan, decide) -> tuple[Plan, Array]:
        """Decides anew where the plan is used up; returns the plan and whether it is new."""
        due = plan.position >= length

        def decide_where_due(plan: Plan) -> Plan:
            inner, action, decision = decide(plan.inner)
            new = Plan(inner, action.reshape(plan.actions.shape), decision, jnp.int32(0))
            return jax.tree.map(lambda n, o: jnp.where(due, n, o), new, plan)

        # In a batch `due` is one flag for each environment, and a cond on it would solve the ODE at
        # every step; whether *any* environment is due is one flag, and the cond stays a branch.
        plan = jax.lax.cond(_any_in_batch(due), decide_where_due, lambda plan: plan, plan)
        return plan, due

    def sample(params: Params, plan: Plan, observation: Array, key: Key):
        def decide(inner):
            inner, drawn = head.sample(params, inner, observation, key)
            return inner, drawn.action, drawn.decision

        plan, due = advance(plan, decide)
        pre_squash = plan.decision.reshape(plan.actions.shape)[plan.position]
        drawn = PolicySample(plan.actions[plan.position], pre_squash, None, plan.decision, due)
        return plan._replace(position=plan.position + 1), drawn

    def mode(params: Params, plan: Plan, observation: Array) -> tuple[Plan, Array]:
        def decide(inner):
            inner, action = head.mode(params, inner, observation)
            return inner, action, plan.decision

        plan, _ = advance(plan, decide)
        return plan._replace(position=plan.position + 1), plan.actions[plan.position]

    return PolicyHead(head.init, reset, sample, mode)


@custom_vmap
def _any_in_batch(flag: Array) -> Array:
    """`flag` itself for one example; whether any is set, unbatched, under any number of vmaps."""
    return flag


@_any_in_batch.def_vmap
def _any_rule(axis_size: int, in_batched: list[bool], flag: Array) -> tuple[Array, bool]:
    del axis_size
    return _any_in_batch(jnp.any(flag, axis=0) if in_batched[0] else flag), False
