"""One environment step of a physics: several substeps, batched and differentiated by hand.

The forward pass keeps the state before each substep and nothing else; the backward pass walks the
substeps in reverse and recomputes each one on the way. Both run on arrays whose last axis is the batch,
and ``vmap`` is told so: it moves its axis to the end and merges it with the batch that is there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from rpgjax.physics.components import Component, fence, opaque_one

Tree: TypeAlias = Any
"""A pytree of arrays whose last axis is the batch."""

BLOCK = 256  # environments stepped at once on a CPU, measured on ant and hopper (128 to 512)


def batch_last(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function of arrays ``(..., batch)`` take ``vmap`` by growing the batch.

    Args:
        function: of pytrees of arrays, all with the same last axis, each entry of which is independent
            of the others; returns the same.

    Returns:
        The function; under any number of ``vmap`` it is called once, with all of them in one batch.
    """

    @custom_vmap
    def batched(*args: Any) -> Any:
        return function(*args)  # ty: ignore

    @batched.def_vmap
    def rule(axis_size: int, in_batched: Any, *args: Any) -> tuple[Any, Any]:
        def merge(x: jax.Array, is_batched: bool) -> jax.Array:
            if not is_batched:
                x = jnp.broadcast_to(x[None], (axis_size, *x.shape))
            x = jnp.moveaxis(x, 0, -2)
            return x.reshape((*x.shape[:-2], x.shape[-2] * x.shape[-1]))

        def split(x: jax.Array) -> jax.Array:
            x = x.reshape((*x.shape[:-1], axis_size, x.shape[-1] // axis_size))
            return jnp.moveaxis(x, -2, 0)

        result = batched(*jax.tree.map(merge, args, tuple(in_batched)))
        result = jax.tree.map(split, result)
        return result, jax.tree.map(lambda _: True, result)

    return batched  # ty: ignore


def in_blocks(function: Callable[..., Any], width: int | None) -> Callable[..., Any]:
    """Runs a function of arrays ``(..., batch)`` on blocks of ``width`` columns, one after the other.

    A substep has a thousand intermediate rows: of a few columns they stay in a core's cache, of many they
    go to memory and back. A batch that is no multiple of the width is left whole, as is any where the
    width is None.
    """
    if width is None:
        return function

    def blocked(*args: Any) -> Any:
        batch = jax.tree.leaves(args)[0].shape[-1]
        if batch <= width or batch % width:
            return function(*args)

        def split(x: jax.Array) -> jax.Array:
            return jnp.moveaxis(x.reshape((*x.shape[:-1], batch // width, width)), -2, 0)

        def merge(x: jax.Array) -> jax.Array:
            x = jnp.moveaxis(x, 0, -2)
            return x.reshape((*x.shape[:-2], batch))

        result = jax.lax.map(lambda block: function(*block), jax.tree.map(split, args))
        return jax.tree.map(merge, result)

    return blocked


class Physics(NamedTuple):
    """What a physics does, as pure functions of pytrees whose arrays' last axis is the batch.

    `one` is the number 1 where XLA is to keep shared values, see :func:`components.fence`.
    """

    unpack: Callable[[Tree], Tree]  # the state as a caller has it -> as a substep wants it
    pack: Callable[[Tree], Tree]  # the transpose of `unpack`
    drive: Callable[[jax.Array], Tree]  # action (actuators, batch) -> what drives every substep
    substep: Callable[[Tree, Tree, Component], Tree]  # state, drive, one -> state
    keep: Callable[[Tree], Tree]  # part of the state before the last substep, that `outputs` want
    outputs: Callable[[Tree, Tree, Component], Tree]  # last state, what was kept, one


def batched_step(physics: Physics, substeps: int) -> Callable[[Tree, jax.Array], Tree]:
    """Builds the step of one environment.

    Args:
        physics: what a substep is.
        substeps: physics steps per environment step.

    Returns:
        A function of the state, with the batch as last axis, and the action ``(actuators, batch)``,
        differentiable in reverse mode and under any ``vmap``.
    """

    def one_for(action: jax.Array) -> Component:
        # Only XLA's CPU compiler duplicates what is used more than once.
        return opaque_one(action) if jax.default_backend() == "cpu" else 1.0

    def trajectory(state: Tree, action: jax.Array) -> tuple[Tree, Tree, Tree]:
        drive, one = physics.drive(action), one_for(action)

        def body(now: Tree, _: None) -> tuple[Tree, Tree]:
            return physics.substep(now, drive, one), now

        final, before = jax.lax.scan(body, physics.unpack(state), None, substeps)
        last = jax.tree.map(lambda x: x[-1], before)
        return physics.outputs(final, physics.keep(last), one), before, final

    def forward(state: Tree, action: jax.Array) -> Tree:
        drive, one = physics.drive(action), one_for(action)
        start = physics.unpack(state)

        def body(carry: tuple[Tree, Tree], _: None) -> tuple[tuple[Tree, Tree], None]:
            now, _ = carry
            return (physics.substep(now, drive, one), physics.keep(now)), None

        (final, kept), _ = jax.lax.scan(body, (start, physics.keep(start)), None, substeps)
        return physics.outputs(final, kept, one)

    def backward(
        before: Tree, final: Tree, action: jax.Array, cotangent: Tree
    ) -> tuple[Tree, jax.Array]:
        """`cotangent` is None where it is known to be zero."""
        one = one_for(action)
        drive, drive_vjp = jax.vjp(physics.drive, action)
        last = jax.tree.map(lambda x: x[-1], before)
        wanted = jax.tree.leaves(cotangent, is_leaf=lambda x: x is None)

        def seen(final: Tree, kept: Tree) -> list[jax.Array]:
            """The outputs that somebody looked at: most tasks look at a third of them."""
            every = jax.tree.leaves(physics.outputs(final, kept, one))
            return [x for x, c in zip(every, wanted, strict=True) if c is not None]

        _, outputs_vjp = jax.vjp(seen, final, physics.keep(last))
        towards, towards_kept = outputs_vjp([c for c in wanted if c is not None])

        def body(carry: tuple[Tree, Tree, Tree], now: Tree) -> tuple[Tree, None]:
            towards, towards_kept, towards_drive = carry
            now = fence(now, one)  # read from memory once, not at each of its uses
            _, vjp = jax.vjp(lambda now, drive: physics.substep(now, drive, one), now, drive)
            _, keep_vjp = jax.vjp(physics.keep, now)
            before, more = vjp(towards)
            before = jax.tree.map(jnp.add, before, keep_vjp(towards_kept)[0])
            nothing = jax.tree.map(jnp.zeros_like, towards_kept)
            return (before, nothing, jax.tree.map(jnp.add, towards_drive, more)), None

        start = towards, towards_kept, jax.tree.map(jnp.zeros_like, drive)
        (first, _, towards_drive), _ = jax.lax.scan(body, start, before, reverse=True)
        return physics.pack(first), drive_vjp(towards_drive)[0]

    width = BLOCK if jax.default_backend() == "cpu" else None
    batched_forward = batch_last(in_blocks(forward, width))
    batched_trajectory = batch_last(in_blocks(trajectory, width))
    batched_backward = batch_last(in_blocks(backward, width))

    @jax.custom_vjp
    def step(state: Tree, action: jax.Array) -> Tree:
        return batched_forward(state, action)

    def step_forward(*primals: Any) -> tuple[Tree, Any]:
        state, action = jax.tree.map(
            lambda x: x.value, primals, is_leaf=lambda x: isinstance(x, CustomVJPPrimal)
        )
        result, before, final = batched_trajectory(state, action)
        return result, (before, final, action)

    def step_backward(residual: Any, cotangent: Tree) -> tuple[Tree, jax.Array]:
        before, final, action = residual
        known = jax.tree.map(lambda c: None if isinstance(c, SymbolicZero) else c, cotangent)
        return batched_backward(before, final, action, known)

    step.defvjp(step_forward, step_backward, symbolic_zeros=True)
    return step
