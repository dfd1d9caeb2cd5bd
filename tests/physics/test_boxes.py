"""Spheres against boxes: the nearest point of the surface, and which boxes are near at all."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.base import PipelineEnv
from brax.io import mjcf

from rpgjax.envs.ant_mazes import MAZE, PUSH, Maze, ant_push, model
from rpgjax.physics.backends import differentiable, unsupported
from rpgjax.physics.boxes import Box, closest, most_at_once, nearest
from rpgjax.physics.components import IDENTITY

pytestmark = pytest.mark.usefixtures("x64")
TURN = ((0.8, 0.6, 0.0), (-0.6, 0.8, 0.0), (0.0, 0.0, 1.0))


def upright(*centre_and_half: float) -> Box:
    x, y, z, a, b, c = centre_and_half
    return Box((x, y, z), IDENTITY, (a, b, c))


def columns(points: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Points (n, 3) as a vector of one row each."""
    x, y, z = jnp.asarray(points, float).T[:, :, None]
    return x, y, z


@pytest.mark.parametrize(
    ("point", "level", "normal"),
    [
        ((4.0, 0.5, -0.2), 2.0, (1.0, 0.0, 0.0)),  # beside a face
        ((-5.0, -5.0, 0.0), 5.0, (-0.6, -0.8, 0.0)),  # off an edge
        ((4.0, 2.0, 5.0), 3.0, (2 / 3, 1 / 3, 2 / 3)),  # off a corner
        ((0.5, -0.8, 1.0), -0.2, (0.0, -1.0, 0.0)),  # inside, next to a face
        ((1.9, 0.0, -2.95), -0.05, (0.0, 0.0, -1.0)),
    ],
)
def test_the_nearest_point_of_a_box(point: Any, level: float, normal: Any) -> None:
    box = upright(0.0, 0.0, 0.0, 2.0, 1.0, 3.0)
    found, away = nearest(columns([point]), box)
    np.testing.assert_allclose(found, [[level]], atol=1e-12)
    np.testing.assert_allclose(np.ravel(away), normal, atol=1e-12)


def test_a_turned_box_is_a_box_seen_turned() -> None:
    points = np.random.default_rng(0).uniform(-4, 4, (200, 3))
    middle, half = (0.5, -1.0, 0.2), (1.5, 0.7, 1.0)
    level, away = nearest(columns(points), Box(middle, TURN, half))
    turned = (points - middle) @ np.array(TURN).T
    expected, there = nearest(columns(turned), upright(0.0, 0.0, 0.0, *half))
    np.testing.assert_allclose(level, expected, atol=1e-12)
    back = np.concatenate(there, 1) @ np.array(TURN)
    np.testing.assert_allclose(np.concatenate(away, 1), back, atol=1e-12)
    assert np.min(level) < 0.0 < np.max(level)


def test_the_way_out_of_a_box_is_the_slope_of_the_distance() -> None:
    points = columns(np.random.default_rng(1).uniform(-3, 3, (100, 3)))
    box = Box((0.1, 0.2, 0.3), TURN, (1.0, 1.5, 0.5))
    slope = jax.grad(lambda p: jnp.sum(nearest(p, box)[0]))(points)
    np.testing.assert_allclose(np.array(slope), np.array(nearest(points, box)[1]), atol=1e-12)


def test_how_many_boxes_meet() -> None:
    apart = upright(0, 0, 0, 1, 1, 1), upright(3, 0, 0, 1, 1, 1)
    assert most_at_once(apart, 0.4) == 1
    assert most_at_once(apart, 0.5) == 2  # from the middle between them
    assert most_at_once((*apart, upright(0, 3, 0, 1, 1, 1)), 0.5) == 3
    row = tuple(upright(2.0 * i, 0, 0, 1, 1, 1) for i in range(5))
    assert most_at_once(row, 0.3) == 2
    assert (
        most_at_once(
            (Box((0.0, 0.0, 0.0), TURN, (1.0, 1.0, 1.0)), upright(2.3, 0, 0, 1, 1, 1)), 0.0
        )
        == 2
    )


def test_no_box_that_is_touched_is_left_out() -> None:
    draw = np.random.default_rng(2)
    radius = 0.5
    boxes = tuple(
        Box((*draw.uniform(-4, 4, 3),), TURN if i % 2 else IDENTITY, (*draw.uniform(0.2, 1.5, 3),))
        for i in range(12)
    )
    most = most_at_once(boxes, radius)
    assert 1 < most < len(boxes)
    points = draw.uniform(-4, 4, (2000, 3))
    picked = closest(columns(np.tile(points, (most, 1))), boxes, most)
    kept = np.reshape(nearest(columns(np.tile(points, (most, 1))), picked)[0], (most, -1))
    every = np.array([nearest(columns(points), box)[0][:, 0] for box in boxes])
    touched = np.where(every < radius, every, np.inf)
    assert np.max(np.sum(every < radius, 0)) > 1
    np.testing.assert_allclose(
        np.sort(np.where(kept < radius, kept, np.inf), 0), np.sort(touched, 0)[:most], atol=1e-12
    )
    assert np.all(np.sort(touched, 0)[most:] == np.inf)


def some_states(env: PipelineEnv, count: int) -> Any:
    """Ants thrown about in AntPush, many of them into walls and the block."""
    draw = np.random.default_rng(0)
    q = np.tile(np.asarray(env.sys.init_q), (count, 1))
    q[:, :2] = draw.uniform(-5, 5, (count, 2)) + np.array([0.0, 4.0])
    q[:, 2] = draw.uniform(0.2, 0.9, count)
    q[:, 3:7] = draw.normal(size=(count, 4))
    q[:, 3:7] /= np.linalg.norm(q[:, 3:7], axis=1, keepdims=True)
    q[:, 15:] = draw.uniform(-1, 1, (count, 2))
    qd = 3.0 * draw.normal(size=(count, env.sys.qd_size()))
    return jax.jit(jax.vmap(env.pipeline_init))(q, qd)


@pytest.mark.usefixtures("brax_physics")
def test_ants_that_hit_walls_and_the_block_move_as_braxs_do() -> None:
    env = copy.copy(ant_push("spring").unwrapped)
    env.sys = env.sys.replace(
        spring_inertia_scale=1.0
    )  # a block that turns, as everything of Brax's
    env._n_frames = 1
    states = some_states(env, 100)
    actions = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (100, env.action_size)))
    theirs = jax.jit(jax.vmap(env.pipeline_step))(states, actions)
    ours = jax.jit(jax.vmap(differentiable(env).pipeline_step))(states, actions)
    for (path, expected), actual in zip(
        jax.tree_util.tree_leaves_with_path(theirs), jax.tree.leaves(ours), strict=True
    ):
        name, apart = jax.tree_util.keystr(path), np.abs(actual - expected).reshape(100, -1).max(1)
        # Off an edge of a box MuJoCo XLA is 1e-8 beside the nearest point: it adds 1e-6 to a length squared.
        assert np.mean(apart < 1e-11) > 0.95, name
        assert np.max(apart) < 1e-5, name
    # The same without the boxes: they have to matter here.
    free = copy.copy(env)
    mask = np.asarray(env.sys.geom_conaffinity) * (np.asarray(env.sys.geom_type) == 0)
    free.sys = env.sys.replace(geom_conaffinity=mask)
    through = jax.jit(jax.vmap(differentiable(free).pipeline_step))(states, actions)
    moved = np.abs(through.qd - ours.qd)
    assert np.sum(moved[:, :14].max(1) > 0.1) > 20, "the ants touched next to nothing"
    assert np.sum(moved[:, 14:].max(1) > 0.1) > 20, "the block was not moved"


@pytest.mark.usefixtures("brax_physics")
def test_the_gradient_through_walls_and_the_block_is_the_slope() -> None:
    env = copy.copy(ant_push("spring").unwrapped)
    env._n_frames = 1
    env = differentiable(env)
    states = some_states(env, 100)
    weights = jnp.cos(jnp.arange(env.sys.qd_size()) + 1.0)

    def values(velocity: jax.Array, spin: jax.Array) -> jax.Array:
        motion = states.xd_i.replace(vel=velocity, ang=spin)
        step = jax.vmap(lambda s: env.pipeline_step(s, jnp.zeros(env.action_size)))
        return step(states.replace(xd_i=motion)).qd @ weights

    point = states.xd_i.vel, states.xd_i.ang
    draw = np.random.default_rng(3)
    direction = jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape)), point)
    slopes = jax.jit(jax.grad(lambda *p: jnp.sum(values(*p)), (0, 1)))(*point)
    along = sum(jnp.sum(s * d, (1, 2)) for s, d in zip(slopes, direction, strict=True))
    high, low = (
        jax.jit(values)(*(p + h * d for p, d in zip(point, direction, strict=True)))
        for h in (1e-6, -1e-6)
    )
    # A contact that begins or ends within the step, or friction that starts to slip, has no slope.
    smooth = np.isclose(along, (high - low) / 2e-6, rtol=1e-5, atol=1e-5)
    assert np.mean(smooth) > 0.97


@pytest.mark.parametrize("maze", [PUSH, MAZE])
def test_the_ants_mazes_are_not_left_to_brax(maze: Maze) -> None:
    assert unsupported(mjcf.loads(model(maze))) is None


def test_boxes_that_rub_differently_are_left_to_brax() -> None:
    sys = mjcf.loads(model(PUSH))
    friction = np.array(sys.geom_friction)
    friction[1, 0] = 2.0
    assert "differ in friction" in unsupported(sys.replace(geom_friction=friction))
