"""BlockPush: what is pushed, what stops, and when it pays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.envs.block_push import BOX, GOALS, HALF, YIELD, BlockPush, block_push

TASK = BlockPush(2)
STEP = jax.jit(TASK.transition)


def go(state, action, steps):
    for _ in range(steps):
        state = STEP(state, jnp.asarray(action, jnp.float32)).state
    return state


def boxes(state):
    return np.asarray(state).reshape(-1, 2)


def test_a_block_is_pushed_straight_ahead():
    end = boxes(go(TASK.initial(jax.random.key(0)), (0.0, 1.0), 8))
    np.testing.assert_allclose(end[2], [0.0, YIELD * (8 * 0.32 - 1.0)], atol=1e-4)  # 1 m is free
    np.testing.assert_allclose(end[0], [0.0, end[2, 1] - BOX], atol=1e-4)
    np.testing.assert_allclose(end[1], [-1.2, 0.0])  # the other one stays


def test_a_push_is_as_slow_as_the_damped_block_makes_it():
    """Against the rigid bodies: the agent is set to 4 m/s every 0.01 s, contact is inelastic."""
    mass, damping, dt, speed = 64.0, 5000.0, 0.01, 0.0
    for _ in range(100):
        speed = mass * (4.0 + speed) / (2 * mass + damping * dt)
    assert pytest.approx(4.0 * YIELD) == speed


def test_walls_stop_blocks_and_blocks_stop_the_agent():
    end = boxes(go(TASK.initial(jax.random.key(0)), (0.0, 1.0), 40))
    np.testing.assert_allclose(end[2], [0.0, HALF], atol=1e-4)
    np.testing.assert_allclose(end[0], [0.0, HALF - BOX], atol=1e-4)


def test_a_pushed_block_pushes_the_next():
    start = jnp.array([-1.0, 0.0, -0.55, 0.0, 0.0, 0.0])
    end = boxes(go(start, (1.0, 0.0), 6))
    assert end[2, 0] > 0.3
    assert np.all(np.diff(end[:, 0]) > 0.95 * BOX)


def test_nothing_overlaps_much_and_nothing_leaves_however_one_pushes():
    def wander(key):
        actions = 2.0 * jax.random.normal(key, (200, 2))
        state = TASK.initial(key)
        return jax.lax.scan(lambda s, a: (TASK.transition(s, a).state,) * 2, state, actions)[1]

    states = np.asarray(jax.jit(jax.vmap(wander))(jax.random.split(jax.random.key(0), 32)))
    places = states.reshape(-1, 3, 2)
    assert np.abs(places).max() <= HALF + 1e-5
    for i, j in ((0, 1), (0, 2), (1, 2)):
        overlap = (BOX - np.abs(places[:, i] - places[:, j])).min(axis=1)
        assert np.quantile(overlap, 0.999) < 0.05 * BOX
    assert np.ptp(places[:, 1:], axis=0).max() > 1.0, "blocks were moved"


def test_it_pays_when_all_blocks_are_near_their_goals():
    still = jnp.zeros(2)
    solved = jnp.array([0.0, -1.4, *GOALS[0], *GOALS[1]])
    assert float(TASK.transition(solved, still).reward) == 1.0
    nearly = solved.at[2].add(0.21)
    assert float(TASK.transition(nearly, still).reward) == 0.0
    assert float(TASK.transition(solved.at[2].add(0.19), still).reward) == 1.0


def test_a_block_follows_its_pusher_in_the_gradient():
    touching = jnp.array([0.0, -0.4, -1.2, 1.0, 0.0, 0.0])
    slope = jax.jacobian(lambda a: TASK.transition(touching, a).state)(jnp.array([0.1, 0.5]))
    np.testing.assert_allclose(slope[5], [0.0, 0.32 * YIELD], atol=1e-5)
    np.testing.assert_allclose(slope[2:4], 0.0)


def test_three_blocks_and_no_more():
    assert block_push(3).observation_size == 8 + 8 + 8 * 10
    with pytest.raises(ValueError, match="1 to 3"):
        BlockPush(4)
