"""The ant's mazes: where walls are, what stops at them, and what a push moves."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from rpgjax.envs import registry
from rpgjax.envs.ant_mazes import BLOCK, MAZE, NEAR, PUSH, SIDE, AntInMaze, model
from rpgjax.envs.quiet import quiet_models

pytestmark = pytest.mark.usefixtures("brax_physics")


def free(maze, x, y):
    """Whether a place in m is in no wall, by the boxes that are built."""
    inside = [abs(x - a) < half and abs(y - b) < SIDE / 2 for a, b, half in maze.walls()]
    return not any(inside)


@pytest.mark.parametrize("maze", [PUSH, MAZE])
def test_walls_are_the_plans(maze):
    for y, row in enumerate(maze.rows):
        for x, cell in enumerate(row):
            assert free(maze, *maze.middle(float(x), float(y))) == (cell != "#")
    assert free(maze, 0.0, 0.0) and free(maze, *maze.goal)
    assert not free(maze, 0.0, -SIDE)


def test_the_models_are_what_mujoco_reads():
    for maze, size, boxes in ((PUSH, (17, 16), 9), (MAZE, (15, 14), 8)):
        with quiet_models():
            found = mujoco.MjModel.from_xml_string(model(maze))
        assert (found.nq, found.nv, found.nu) == (*size, 8)
        assert np.sum(found.geom_type == mujoco.mjtGeom.mjGEOM_BOX) == boxes


@pytest.fixture(scope="module")
def push():
    env = registry.make("ant_push", "spring")
    step = jax.jit(env.step)
    return env, step


def placed(env, torso=None, block=None, velocity=None):
    """A first state with the torso and the block where they are wanted, the ant's feet on the ground."""
    inner = env.unwrapped
    q = inner.sys.init_q
    qd = jnp.zeros(inner.sys.qd_size())
    if torso is not None:
        q = q.at[:2].set(jnp.asarray(torso))
    if block is not None:
        q = q.at[15:].set(jnp.asarray(block))
    if velocity is not None:
        qd = qd.at[14:].set(jnp.asarray(velocity))
    state = jax.jit(env.reset)(jax.random.key(0))
    return state.replace(pipeline_state=jax.jit(inner.pipeline_init)(q, qd))


def test_the_reward_is_the_distance_and_nothing_ends(push):
    env, step = push
    state = step(placed(env), jnp.zeros(8))
    distance = float(jnp.linalg.norm(state.pipeline_state.x.pos[0, :2] - jnp.array(PUSH.goal)))
    assert float(state.reward) == pytest.approx(-0.1 * distance, rel=1e-4)
    assert float(state.done) == 0.0 and float(state.metrics["success"]) == 0.0
    near = step(placed(env, torso=(0.0, PUSH.goal[1] - NEAR + 1.0)), jnp.zeros(8))
    assert float(near.metrics["success"]) == 1.0
    assert state.obs.shape == (33 + 4 * 3,)


def test_the_pace_is_how_fast_the_goal_comes_near(push):
    env, step = push
    inner = env.unwrapped
    assert env.dt == pytest.approx(0.1)
    qd = jnp.zeros(inner.sys.qd_size()).at[:2].set(jnp.array([1.0, 2.0]))
    state = placed(env).replace(pipeline_state=jax.jit(inner.pipeline_init)(inner.sys.init_q, qd))
    assert float(state.info["pace"]) == 0.0
    places = [np.array(state.pipeline_state.x.pos[0, :2])]
    for _ in range(3):
        state = step(state, jnp.zeros(8))
        places.append(np.array(state.pipeline_state.x.pos[0, :2]))
        before, after = (np.linalg.norm(place - np.array(PUSH.goal)) for place in places[-2:])
        assert float(state.info["pace"]) == pytest.approx((before - after) / 0.1, abs=1e-3)
    assert places[-1][1] - places[0][1] > 0.1


def test_a_block_slides_and_stops_at_the_wall(push):
    env, step = push
    state = placed(env, velocity=(6.0, 0.0))
    for _ in range(20):
        state = step(state, jnp.zeros(8))
    slid = np.asarray(state.pipeline_state.q[15:])
    assert slid[0] == pytest.approx(8.0, abs=0.1) and abs(slid[1]) < 0.02  # the wall is at its 12 m
    # Downwards, the ant's own cell is free; to the right of that there is a wall.
    state = placed(env, block=(0.0, -SIDE), torso=(-SIDE, 0.0), velocity=(6.0, 0.0))
    for _ in range(20):
        state = step(state, jnp.zeros(8))
    stopped = np.asarray(state.pipeline_state.q[15:])
    assert abs(stopped[0]) < SIDE / 2 - BLOCK + 0.02 and np.all(np.isfinite(stopped))


def test_the_ant_pushes_the_block(push):
    """An ant that is thrown at the block moves it; it does not walk through."""
    env, step = push
    inner = env.unwrapped
    q = inner.sys.init_q.at[:2].set(jnp.array([-SIDE / 2 - 1.5, SIDE]))
    qd = jnp.zeros(inner.sys.qd_size()).at[0].set(8.0)
    state = placed(env).replace(pipeline_state=jax.jit(inner.pipeline_init)(q, qd))
    for _ in range(30):
        state = step(state, jnp.zeros(8))
    torso, block = state.pipeline_state.q[0], state.pipeline_state.q[15]
    assert float(block) > 0.1
    assert float(torso) < float(block) - BLOCK
    # Its objects are the places of both.
    q, reach = np.asarray(state.pipeline_state.q), SIDE * len(PUSH.rows) / 2
    np.testing.assert_allclose(reach * state.obs[33:37], [*q[:2], *q[15:]], rtol=1e-4, atol=1e-4)


def test_a_block_that_is_pushed_at_its_end_does_not_turn(push):
    """It is on rails: only joints that give way would let it, in coordinates that MuJoCo does not have."""
    env, step = push
    inner = env.unwrapped
    q = inner.sys.init_q.at[:2].set(jnp.array([-2.4, SIDE / 2 - 1.5]))
    qd = jnp.zeros(inner.sys.qd_size()).at[1].set(10.0)
    state = placed(env).replace(pipeline_state=jax.jit(inner.pipeline_init)(q, qd))
    for _ in range(10):
        state = step(state, jnp.zeros(8))
        turned = 2.0 * np.abs(state.pipeline_state.x.rot[-1][1:])
        assert np.max(turned) < 1e-3
    block = np.asarray(state.pipeline_state.q[15:])
    assert block[1] > 0.3 and abs(block[0]) < 0.05


def test_walls_stop_the_ant(push):
    env, step = push
    inner = env.unwrapped
    qd = jnp.zeros(inner.sys.qd_size()).at[0].set(10.0)  # towards the wall at x = 4
    state = placed(env).replace(pipeline_state=jax.jit(inner.pipeline_init)(inner.sys.init_q, qd))
    farthest = 0.0
    for _ in range(40):
        state = step(state, jnp.zeros(8))
        farthest = max(farthest, float(state.pipeline_state.q[0]))
    assert 2.0 < farthest < SIDE / 2 - 0.2


def test_an_ant_on_its_back_lies_on_the_ground_and_training_gives_it_up(push):
    """The torso, a ball of 0.25 m, holds it up; legs do not. The task itself goes on."""
    env, step = push
    inner = env.unwrapped
    q = inner.sys.init_q.at[2:7].set(jnp.array([0.6, 0.0, 1.0, 0.0, 0.0]))
    state = placed(env).replace(
        pipeline_state=jax.jit(inner.pipeline_init)(q, jnp.zeros(inner.sys.qd_size()))
    )
    given_up = []
    for _ in range(21):
        state = step(state, jnp.zeros(8))
        given_up.append(float(state.info["truncation"]))
    assert 0.2 < float(state.pipeline_state.x.pos[0, 2]) < 0.45
    assert given_up == [0.0] * 19 + [1.0] * 2
    assert float(state.done) == 0.0
    stands = placed(env)
    stands.info["down"] = jnp.array(19.0)  # it lay there until now
    stands = step(stands, jnp.zeros(8))
    assert float(stands.info["down"]) == float(stands.info["truncation"]) == 0.0


@pytest.mark.parametrize("backend", ["positional", "generalized", "mjx"])
def test_the_mazes_are_tasks_on_every_backend_that_they_are_offered_on(backend):
    env = registry.make("ant_push", backend)
    state = jax.eval_shape(env.reset, jax.random.key(0))
    after = jax.eval_shape(env.step, state, jnp.zeros(env.action_size))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_pictures_have_its_walls(push):
    env, _ = push
    assert all(wall.shape == (5, 2) for wall in env.unwrapped.walls())
    assert isinstance(env.unwrapped, AntInMaze)
