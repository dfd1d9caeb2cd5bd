"""The inverse inertia that Brax's contacts see."""

from typing import NamedTuple, TypeAlias

import numpy as np

from rpgjax.physics.components import Component, constant

STILL = 1e-6
"""Inverse inertia, 1 / (kg m^2), below which a link does not turn. To Brax's contacts it would give way as
if it did: pushed at its end, a block would sink into walls."""

Place: TypeAlias = dict[int, tuple[int, int]]
"""Group and row of each of Brax's links."""


class Spin(NamedTuple):
    """The inverse inertia that Brax's contacts see: one scalar per contact.

    Brax indexes the flattened ``(links, 3, 3)`` array with the link's index, so a contact of link ``k``
    sees entry ``k % 9`` of link ``k // 9``. Kept, because a task's behaviour depends on it; but where
    nothing turns a link, contacts do not either (`STILL`).
    """

    constant: Component | None  # where every principal inertia is 1
    entries: tuple[tuple[int, int, int, int, np.ndarray], ...]  # group, row, i, j, who sees it


def spin_of(inverse: np.ndarray, links: list[int], place: Place) -> Spin:
    """What the contacts of these links see of the links' inverse inertia."""
    entries = [(link // 9, *divmod(link % 9, 3)) for link in links]
    if np.all(inverse == 1.0):
        seen = np.array([float(i == j) for _, i, j in entries])[:, None]
        return Spin(constant(seen), ())
    turns = inverse[links].max(axis=1) > STILL

    def who_sees(entry: tuple[int, int, int]) -> np.ndarray:
        return (turns & np.array([other == entry for other in entries])).astype(float)[:, None]

    each = sorted(set(entries))
    return Spin(None, tuple((*place[entry[0]], *entry[1:], who_sees(entry)) for entry in each))
