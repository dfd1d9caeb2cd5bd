"""The inverse inertia that Brax's contacts see."""

from typing import NamedTuple, TypeAlias

import numpy as np

from rpgjax.physics.components import Component, constant

Place: TypeAlias = dict[int, tuple[int, int]]
"""Group and row of each of Brax's links."""


class Spin(NamedTuple):
    """The inverse inertia that Brax's contacts see: one scalar per contact.

    Brax indexes the flattened ``(links, 3, 3)`` array with the link's index, so a contact of link ``k``
    sees entry ``k % 9`` of link ``k // 9``. Kept, because a task's behaviour depends on it.
    """

    constant: Component | None  # where every principal inertia is 1
    entries: tuple[tuple[int, int, int, int, np.ndarray], ...]  # group, row, i, j, who sees it


def spin_of(inverse: np.ndarray, links: list[int], place: Place) -> Spin:
    """What the contacts of these links see of the links' inverse inertia."""
    entries = [(link // 9, *divmod(link % 9, 3)) for link in links]
    if np.all(inverse == 1.0):
        seen = np.array([float(i == j) for _, i, j in entries])[:, None]
        return Spin(constant(seen), ())
    return Spin(
        None,
        tuple(
            (*place[source], i, j, np.array([[float(e == (source, i, j))] for e in entries]))
            for source, i, j in sorted(set(entries))
        ),
    )
