"""GapMaze: rooms behind narrow doors, and no reward: a task for exploration alone."""

import jax.numpy as jnp
import numpy as np

from rpgjax.envs.analytic.task import AnalyticTask, Outcome
from rpgjax.envs.object_centric import ObjectCentric
from rpgjax.types import Array, Key

CELLS = 5  # rooms on a side
SIDE = 2.0  # of a room, m
HALF = 5.0  # of the box, m
# Rooms (x, y) without a door in their lower (y) wall, and in their left (x) wall.
NO_DOOR_BELOW = ((0, 2), (1, 2), (3, 2), (4, 2), (1, 3), (3, 3))
NO_DOOR_LEFT = (
    (1, 0),
    (2, 0),
    (3, 1),
    (4, 1),
    (2, 3),
    (4, 3),
    (1, 4),
    (2, 4),
    (3, 4),
    (4, 4),
)

_BOX = (  # the outer walls
    (-HALF, -HALF, HALF, -HALF),
    (HALF, -HALF, HALF, HALF),
    (HALF, HALF, -HALF, HALF),
    (-HALF, HALF, -HALF, -HALF),
)


class GapMaze(AnalyticTask):
    """A point in a box of 5 x 5 rooms of 2 m, most walls of which have a door of 0.4 m in the middle.

    State and observation: position p in m, (2,), starting at the origin. Action: (2,), clipped to
    [-1, 1], times 0.25 m. Reward: none. Never terminates; episodes of 50 steps.
    Collisions: the move along x, then the one along y; each stops 1 mm before a wall, so a point that
    runs into a wall at an angle slides along it. The gradient with respect to the action is 0.25 in
    every direction that is free, and 0 into a wall.
    Source: Huang et al., ICML 2023; the layout is the paper's, the way of sliding ours.
    """

    observation_size = 2
    action_size = 2
    episode_length = 50

    def __init__(self, reach: float = 0.25, door: float = 0.4, skin: float = 1e-3) -> None:
        self.reach = reach
        self.door = door
        self.skin = skin
        below, left = np.ones((2, CELLS, CELLS), bool)
        below[tuple(np.transpose(NO_DOOR_BELOW))] = False
        left[tuple(np.transpose(NO_DOOR_LEFT))] = False
        # Indexed by the line crossed (1..4), then by the room along the wall.
        self.doors = np.stack([left, below.T])

    def initial(self, key: Key) -> Array:
        """The origin."""
        del key
        return jnp.zeros(2)

    def transition(self, state: Array, action: Array) -> Outcome:
        """Along x, then along y."""
        move = self.reach * jnp.clip(action, -1.0, 1.0)
        x = self._slide(0, state[0], state[1], move[0])
        y = self._slide(1, state[1], x, move[1])
        return Outcome(jnp.stack([x, y]), jnp.zeros(()), jnp.zeros((), bool))

    def walls(self) -> list[np.ndarray]:
        """Segments (2, 2) from end to end, in m: for pictures."""
        found = [np.array([[a, b], [c, d]]) for a, b, c, d in _BOX]
        gap = 0.5 * self.door
        for axis in (0, 1):
            for line in range(1, CELLS):
                for room in range(CELLS):
                    low, at = room * SIDE - HALF, line * SIDE - HALF
                    middle, high = low + 0.5 * SIDE, low + SIDE
                    pieces = [(low, high)]
                    if self.doors[axis, line, room]:
                        pieces = [(low, middle - gap), (middle + gap, high)]
                    for start, end in pieces:
                        wall = np.array([[at, start], [at, end]])
                        found.append(wall if axis == 0 else wall[:, ::-1])
        return found

    def _slide(self, axis: int, along: Array, across: Array, move: Array) -> Array:
        """Where a move along one axis ends; `across` is the other coordinate."""
        to = along + move
        # The line that lies between: a move is shorter than a room.
        low, high = jnp.minimum(along, to), jnp.maximum(along, to)
        line = jnp.floor((high + HALF) / SIDE).astype(jnp.int32)
        at = line * SIDE - HALF
        room = jnp.clip(jnp.floor((across + HALF) / SIDE), 0, CELLS - 1).astype(jnp.int32)
        inside = (line > 0) & (line < CELLS)
        has_door = jnp.asarray(self.doors[axis])[jnp.clip(line, 0, CELLS - 1), room] & inside
        middle = (room + 0.5) * SIDE - HALF
        is_open = has_door & (jnp.abs(across - middle) < 0.5 * self.door)
        blocked = (low < at) & (at <= high) & ~is_open
        stop = jnp.where(move > 0, at - self.skin, at + self.skin)
        to = jnp.where(blocked, stop, to)
        return jnp.clip(to, -HALF + self.skin, HALF - self.skin)


def gap_maze() -> ObjectCentric:
    """GapMaze as the paper observes it: [0.01 p, p / 5, sin and cos of 2^i p / 5], 28 numbers."""
    return ObjectCentric(GapMaze(), lambda state: state.pipeline_state / HALF, shrink=0.01)


def visited(positions: Array) -> Array:
    """Which of the 10 x 10 squares of 1 m hold any of the positions (..., 2): (10, 10) bool."""
    squares = int(2 * HALF)
    index = jnp.clip(jnp.floor(positions + HALF), 0, squares - 1).astype(jnp.int32).reshape(-1, 2)
    return jnp.zeros((squares, squares), bool).at[index[:, 0], index[:, 1]].set(True)


def coverage(squares: Array) -> Array:
    """The paper's metric, (): the fraction of squares (10, 10) ever visited."""
    return jnp.mean(squares.astype(jnp.float32))
