"""One environment step of the spring physics: several substeps, batched and differentiated by hand.

The forward pass keeps the state before each substep and nothing else; the backward pass walks the
substeps in reverse and recomputes each one on the way. Both run on arrays whose last axis is the batch,
and ``vmap`` is told so: it moves its axis to the end and merges it with the batch that is there.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from rpgjax.physics.components import Component, Quaternion, fence, opaque_one
from rpgjax.physics.spring import Drive, Links, drive, substep
from rpgjax.physics.spring_state import Outputs, Packed, outputs, pack, unpack
from rpgjax.physics.spring_system import SpringSystem

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


def spring_step(system: SpringSystem, substeps: int) -> Callable[[Packed, jax.Array], Outputs]:
    """Builds the step of one environment.

    Args:
        system: constants of the Brax system.
        substeps: physics steps per environment step.

    Returns:
        A function of the state, with the batch as last axis, and the action ``(actuators, batch)``,
        differentiable in reverse mode and under any ``vmap``.
    """

    def one_for(action: jax.Array) -> Component:
        # Only XLA's CPU compiler duplicates what is used more than once.
        return opaque_one(action) if jax.default_backend() == "cpu" else 1.0

    def rotations(links: Links) -> list[Quaternion]:
        return [group.rotation for group in links]

    def trajectory(state: Packed, action: jax.Array) -> tuple[Outputs, Links, Links]:
        tau, one = drive(system, action), one_for(action)

        def body(now: Links, _: None) -> tuple[Links, Links]:
            return substep(system, now, tau, one), now

        final, before = jax.lax.scan(body, unpack(system, state), None, substeps)
        last = jax.tree.map(lambda x: x[-1], before)
        return outputs(system, final, rotations(last), one), before, final

    def forward(state: Packed, action: jax.Array) -> Outputs:
        tau, one = drive(system, action), one_for(action)
        links = unpack(system, state)

        def body(carry: tuple[Links, Any], _: None) -> tuple[tuple[Links, Any], None]:
            now, _ = carry
            return (substep(system, now, tau, one), rotations(now)), None

        (final, last_rotations), _ = jax.lax.scan(body, (links, rotations(links)), None, substeps)
        return outputs(system, final, last_rotations, one)

    def backward(
        before: Links, final: Links, action: jax.Array, cotangent: Outputs
    ) -> tuple[Packed, jax.Array]:
        """`cotangent` is None where it is known to be zero."""
        one = one_for(action)
        tau, drive_vjp = jax.vjp(lambda a: drive(system, a), action)
        last = jax.tree.map(lambda x: x[-1], before)
        wanted = jax.tree.leaves(cotangent, is_leaf=lambda x: x is None)

        def seen(final: Links, last_rotations: list[Quaternion]) -> list[jax.Array]:
            """The outputs that somebody looked at: most tasks look at a third of them."""
            every = jax.tree.leaves(outputs(system, final, last_rotations, one))
            return [x for x, c in zip(every, wanted, strict=True) if c is not None]

        _, outputs_vjp = jax.vjp(seen, final, rotations(last))
        towards, towards_rotations = outputs_vjp([c for c in wanted if c is not None])

        def body(carry: tuple[Links, Any, Drive], now: Links) -> tuple[Any, None]:
            towards, towards_rotations, towards_tau = carry
            now = fence(now, one)  # read from memory once, not at each of its uses
            _, vjp = jax.vjp(lambda now, tau: substep(system, now, tau, one), now, tau)
            links, more = vjp(towards)
            links = tuple(
                group._replace(rotation=jax.tree.map(jnp.add, group.rotation, extra))
                for group, extra in zip(links, towards_rotations, strict=True)
            )
            nothing = jax.tree.map(jnp.zeros_like, towards_rotations)
            return (links, nothing, jax.tree.map(jnp.add, towards_tau, more)), None

        start = towards, towards_rotations, jax.tree.map(jnp.zeros_like, tau)
        (links, _, towards_tau), _ = jax.lax.scan(body, start, before, reverse=True)
        return pack(system, links), drive_vjp(towards_tau)[0]

    width = BLOCK if jax.default_backend() == "cpu" else None
    batched_forward = batch_last(in_blocks(forward, width))
    batched_trajectory = batch_last(in_blocks(trajectory, width))
    batched_backward = batch_last(in_blocks(backward, width))

    @jax.custom_vjp
    def step(state: Packed, action: jax.Array) -> Outputs:
        return batched_forward(state, action)

    def step_forward(*primals: Any) -> tuple[Outputs, Any]:
        state, action = jax.tree.map(
            lambda x: x.value, primals, is_leaf=lambda x: isinstance(x, CustomVJPPrimal)
        )
        result, before, final = batched_trajectory(state, action)
        return result, (before, final, action)

    def step_backward(residual: Any, cotangent: Outputs) -> tuple[Packed, jax.Array]:
        before, final, action = residual
        known = jax.tree.map(lambda c: None if isinstance(c, SymbolicZero) else c, cotangent)
        return batched_backward(before, final, action, known)

    step.defvjp(step_forward, step_backward, symbolic_zeros=True)
    return step
