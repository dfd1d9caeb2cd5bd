"""Constant gathers and scatters along the rows of ``(..., rows, batch)`` arrays.

XLA runs a gather row by row; slices and concatenations of the same rows vectorise.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp


def _runs(index: Sequence[int]) -> list[tuple[int, int, int]]:
    """Splits an index into runs (first, count, step), step 0 (one row repeated) or 1 (a slice)."""
    runs: list[tuple[int, int, int]] = []
    for i in index:
        if runs:
            first, count, step = runs[-1]
            if count == 1 and i - first in (0, 1):
                runs[-1] = (first, 2, i - first)
                continue
            if i == first + count * step:
                runs[-1] = (first, count + 1, step)
                continue
        runs.append((i, 1, 1))
    return runs


def take(x: jax.Array, index: Sequence[int]) -> jax.Array:
    """Rows ``index`` of ``x``, shape (..., rows, batch) to (..., len(index), batch)."""
    index = tuple(map(int, index))
    return x if index == tuple(range(x.shape[-2])) else _take(index, x.shape[-2], x)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _take(index: tuple[int, ...], rows: int, x: jax.Array) -> jax.Array:
    # A transposed slice is a sum of paddings; the rows it adds up can be named instead.
    parts = []
    for first, count, step in _runs(index):
        part = x[..., first : first + (count if step else 1), :]
        if not step:
            part = jnp.broadcast_to(part, (*x.shape[:-2], count, x.shape[-1]))
        parts.append(part)
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-2)


def _take_forward(index: tuple[int, ...], rows: int, x: jax.Array) -> tuple[jax.Array, None]:
    return _take(index, rows, x), None


def _take_backward(
    index: tuple[int, ...], rows: int, residual: None, cotangent: jax.Array
) -> tuple[jax.Array]:
    return (accumulate(cotangent, index, rows),)


_take.defvjp(_take_forward, _take_backward)


def accumulate(x: jax.Array, index: Sequence[int], count: int) -> jax.Array:
    """Adds row ``i`` of ``x`` to row ``index[i]`` of ``count`` rows, the transpose of :func:`take`."""
    sources: list[list[int]] = [[] for _ in range(count)]
    for row, target in enumerate(index):
        sources[target].append(row)
    parts: list[jax.Array] = []
    row = 0
    while row < count:
        stop = row + 1
        if not sources[row]:
            while stop < count and not sources[stop]:
                stop += 1
            parts.append(jnp.zeros((*x.shape[:-2], stop - row, x.shape[-1]), x.dtype))
        elif len(sources[row]) == 1:
            first = sources[row][0]
            while stop < count and sources[stop] == [first + stop - row]:
                stop += 1
            parts.append(x[..., first : first + stop - row, :])
        else:
            picked = take(x, sources[row])
            parts.append(jnp.sum(picked, axis=-2, keepdims=True))
        row = stop
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-2)
