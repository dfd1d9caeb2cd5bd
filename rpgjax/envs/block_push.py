"""BlockPush: push every block to its goal; nothing is paid until all are there."""

import jax.numpy as jnp

from rpgjax.envs.analytic.task import AnalyticTask, Outcome
from rpgjax.envs.object_centric import ObjectCentric
from rpgjax.types import Array, Key

HALF = 1.8  # of the square, m, to a box's middle
BOX = 0.4  # side of a box, m
AGENT = (0.0, -1.4)
BLOCKS = ((-1.2, 0.0), (0.0, 0.0), (1.2, 0.0))
GOALS = ((-1.4, 1.4), (0.0, 1.4), (1.4, 1.4))
NEAR = 0.2  # of its goal, m
# What a block yields of an overlap with the agent; the agent gives way by the rest. As heavy as the block,
# 64 kg, the agent is set to its speed anew every 0.01 s; the block slides with 5000 N s / m.
YIELD = 64.0 / (64.0 + 5000.0 * 0.01)


class BlockPush(AnalyticTask):
    """A square agent pushes square blocks over a table: no rotation, no inertia.

    State and observation: middles of the agent and of the blocks in m, (2 + 2 blocks,), raw. Action:
    (2,), clipped to [-1, 1], times 0.32 m. Reward: 1 where every block's middle is within 0.2 m of its
    goal. Never terminates; episodes of 60 steps.
    Collisions: a step is four moves of a quarter. After each, a block that the agent overlaps and the
    agent are moved apart along the axis of the smaller overlap, the block by 0.56 of it, so that what is
    pushed goes at 0.56 of the agent's free speed; blocks that overlap share the way out, and walls stop
    them; then the agent is moved out of what could not yield. The gradient goes through whatever was
    moved (a block follows its pusher's action by 0.56 along that axis); which axis, and whether there is
    contact, are decisions without a gradient, and so is the reward.
    Source: Huang et al., ICML 2023; sizes, places and the speed of a push are the paper's, the collision
    response is ours.

    Args:
        blocks: 1 to 3.
    """

    action_size = 2
    episode_length = 60

    def __init__(self, blocks: int = 2, reach: float = 0.32) -> None:
        if not 1 <= blocks <= len(BLOCKS):
            raise ValueError(f"BlockPush has 1 to {len(BLOCKS)} blocks, not {blocks}")
        self.blocks = blocks
        self.reach = reach

    @property
    def observation_size(self) -> int:
        """Agent and blocks, x and y."""
        return 2 + 2 * self.blocks

    def initial(self, key: Key) -> Array:
        """Always the same."""
        del key
        return jnp.array((AGENT, *BLOCKS[: self.blocks])).reshape(-1)

    def transition(self, state: Array, action: Array) -> Outcome:
        """Four quarter moves."""
        boxes = state.reshape(-1, 2)
        move = 0.25 * self.reach * jnp.clip(action, -1.0, 1.0)
        for _ in range(4):
            boxes = self._settle(boxes.at[0].add(move))
        distance = jnp.abs(boxes[1:] - jnp.array(GOALS[: self.blocks]))
        solved = jnp.all(jnp.sum(distance**2, axis=1) < NEAR**2)
        return Outcome(boxes.reshape(-1), solved.astype(boxes.dtype), jnp.zeros((), bool))

    def _settle(self, boxes: Array) -> Array:
        """Boxes (1 + blocks, 2), the agent first, without overlaps."""
        boxes = boxes.at[0].set(_inside(boxes[0]))
        for _ in range(2):  # a pushed block may push the next
            for i in range(1, len(boxes)):
                way = _way_out(boxes[i], boxes[0])
                boxes = boxes.at[i].add(YIELD * way).at[0].add((YIELD - 1.0) * way)
            for i in range(1, len(boxes)):
                for j in range(i + 1, len(boxes)):
                    way = 0.5 * _way_out(boxes[i], boxes[j])
                    boxes = boxes.at[i].add(way).at[j].add(-way)
            boxes = _inside(boxes)
        for i in range(1, len(boxes)):
            boxes = boxes.at[0].add(_way_out(boxes[0], boxes[i]))
        return boxes.at[0].set(_inside(boxes[0]))


def _inside(position: Array) -> Array:
    return jnp.clip(position, -HALF, HALF)


def _way_out(box: Array, other: Array) -> Array:
    """How `box` (2,) has to move so as not to overlap `other`, along the axis of the smaller overlap."""
    apart = box - other
    overlap = BOX - jnp.abs(apart)
    touching = jnp.all(overlap > 0)
    along_x = overlap[0] < overlap[1]
    axis = jnp.stack([along_x, ~along_x])
    side = jnp.where(apart >= 0, 1.0, -1.0)
    return jnp.where(touching & axis, side * overlap, 0.0)


def block_push(blocks: int = 2) -> ObjectCentric:
    """BlockPush with positional features of agent and blocks, scaled as in the official code."""
    task = BlockPush(blocks)
    return ObjectCentric(task, lambda state: state.pipeline_state / 2.0, shrink=0.1, frequencies=5)
