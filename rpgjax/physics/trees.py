"""Values of parents and of children, where links are rows of arrays, grouped by kind of joint."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.physics.components import Component, constant
from rpgjax.physics.rows import accumulate, take


def at_rows(tree: Any, rows: Sequence[int] | None) -> Any:
    """Components at these rows: what parents have, by row of their children's group, for instance.

    Args:
        tree: components of one group.
        rows: to take, in this order; None where that is all of them, or one row that stands for all.
    """
    if rows is None:
        return tree

    def picked(x: Component) -> Component:
        if isinstance(x, float) or max(rows) >= x.shape[-2]:  # one row, for all
            return x
        return x[list(rows)] if isinstance(x, np.ndarray) else take(x, rows)

    return jax.tree.map(picked, tree)


def to_parents(tree: Any, rows: Sequence[int] | None, children: int, parents: int) -> Any:
    """Sums what children give to their parents: the transpose of :func:`at_rows`.

    Args:
        tree: components of the children's group.
        rows: each child's parent, by row; None where each row is its own parent, or all have the same.
        children: rows of their group.
        parents: rows of the parents' group.
    """
    if rows is None and (parents > 1 or children == 1):
        return tree
    rows = [0] * children if rows is None else list(rows)

    def summed(x: Component) -> Component:
        if isinstance(x, jax.Array):
            x = jnp.broadcast_to(x, (children, x.shape[-1]))
            return accumulate(x, rows, parents)
        result = np.zeros((parents, 1))
        np.add.at(result, rows, np.broadcast_to(x, (children, 1)))
        return constant(result)

    return jax.tree.map(summed, tree)
