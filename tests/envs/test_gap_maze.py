"""GapMaze: its walls, its doors and its measure."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.envs.gap_maze import CELLS, GapMaze, coverage, gap_maze, visited

MAZE = GapMaze()
STEP = jax.jit(lambda p, a: MAZE.transition(p, a).state)


def walk(start, action, steps):
    p = jnp.asarray(start, jnp.float32)
    for _ in range(steps):
        p = STEP(p, jnp.asarray(action, jnp.float32))
    return np.asarray(p)


def middle(room):
    return 2.0 * np.asarray(room, float) - 4.0


def test_free_moves_are_a_quarter_of_the_action():
    np.testing.assert_allclose(walk((0, 0), (1.0, -0.4), 1), [0.25, -0.1], atol=1e-6)
    np.testing.assert_allclose(walk((0, 0), (7.0, 0.0), 1), [0.25, 0.0], atol=1e-6)


def test_every_room_is_reached_in_five_moves_through_doors():
    """Walking from middle to middle, through every wall that lets one through."""
    found = {(2, 2): 0}
    queue = deque(found)
    while queue:
        room = queue.popleft()
        for move in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            end = walk(middle(room), move, 8)
            other = (room[0] + move[0], room[1] + move[1])
            inside = all(0 <= i < CELLS for i in other)
            if inside and np.allclose(end, middle(other), atol=1e-4) and other not in found:
                found[other] = found[room] + 1
                queue.append(other)
    assert len(found) == CELLS**2
    assert max(found.values()) == 5


@pytest.mark.parametrize(
    ("room", "move"),
    [((0, 2), (0, -1)), ((0, 1), (0, 1)), ((1, 0), (-1, 0)), ((0, 0), (1, 0)), ((4, 3), (-1, 0))],
)
def test_closed_walls_stop_from_both_sides(room, move):
    end, start = walk(middle(room), move, 8), middle(room)
    along = int(np.flatnonzero(move)[0])
    assert abs(end[along] - start[along]) == pytest.approx(1.0 - 1e-3, abs=1e-4)


def test_doors_are_forty_centimetres_wide_and_walls_are_slid_along():
    through = walk((0.0, 0.19), (1.0, 0.0), 8)
    assert through[0] > 1.5
    beside = walk((0.0, 0.21), (1.0, 0.0), 8)
    assert beside[0] == pytest.approx(0.999, abs=1e-4)
    slid = walk(beside, (1.0, 1.0), 2)
    np.testing.assert_allclose(slid - beside, [0.0, 0.5], atol=1e-4)


def test_nobody_leaves_the_box():
    keys = jax.random.split(jax.random.key(0), 64)

    def wander(key):
        actions = 3.0 * jax.random.normal(key, (400, 2))
        return jax.lax.scan(lambda p, a: (STEP(p, a),) * 2, jnp.zeros(2), actions)[1]

    paths = jax.vmap(wander)(keys)
    assert float(jnp.abs(paths).max()) < 5.0
    assert 0.05 < float(coverage(visited(paths))) < 1.0


def test_the_gradient_is_there_where_the_way_is_free():
    free = jax.jacobian(lambda a: MAZE.transition(jnp.zeros(2), a).state)(jnp.array([0.5, 0.5]))
    np.testing.assert_allclose(free, 0.25 * np.eye(2))
    at_wall = jnp.array([0.95, 0.5])
    into = jax.jacobian(lambda a: MAZE.transition(at_wall, a).state)(jnp.array([0.5, 0.5]))
    np.testing.assert_allclose(into, [[0.0, 0.0], [0.0, 0.25]])


def test_the_observation_is_the_papers():
    env = gap_maze()
    state = env.reset(jax.random.key(0))
    assert state.obs.shape == (28,) and env.observation_size == 28
    state = env.step(state, jnp.array([1.0, -1.0]))
    p = np.array([0.25, -0.25])
    np.testing.assert_allclose(state.obs[:4], [*0.01 * p, *p / 5.0], rtol=1e-5)
    np.testing.assert_allclose(state.obs[-4:-2], np.sin(32.0 * p / 5.0), rtol=1e-5)


def test_coverage_counts_squares_once():
    path = jnp.array([[-4.9, -4.9], [-4.1, -4.9], [4.9, 4.9], [0.5, 0.5]])
    assert float(coverage(visited(path))) == pytest.approx(0.03)


def test_walls_are_drawn_where_they_stand():
    walls = MAZE.walls()
    assert len(walls) == 4 + 16 + 24 * 2  # outer, closed, half open
    inner = np.array(walls[4:])
    lengths = np.abs(inner[:, 1] - inner[:, 0]).sum(axis=1)
    assert sorted(set(lengths.round(6))) == [0.8, 2.0]
    for wall in inner:  # whoever walks at its middle from 0.2 m before it is stopped
        across = np.flatnonzero(wall[0] == wall[1])[0]
        start, move = wall.mean(axis=0), np.zeros(2)
        start[across] -= 0.1
        move[across] = 1.0
        assert walk(start, move, 1)[across] < wall[0][across]
