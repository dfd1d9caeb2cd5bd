"""AntPush and AntMaze: Brax's ant among walls, and a goal that the straight way does not reach."""

import itertools
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.envs.object_centric import ObjectCentric
from rpgjax.envs.quiet import quiet_brax
from rpgjax.types import Array, Key

with quiet_brax():
    from brax.base import System
    from brax.envs import PipelineEnv, State
    from brax.envs.ant import Ant
    from brax.io import mjcf

SIDE = 8.0  # of a cell, m
HEIGHT = 4.0  # of walls and block, m, and as far below the floor: nobody gets over or under them
BLOCK = 3.8  # half of the block's side, m: cells leave it 0.2 m on each side
BLOCK_MASS = 1.0  # kg, which Brax's ant makes of every link on `spring` and `positional`
NEAR = 5.0  # of the goal, m: success
MAXIMAL = ("spring", "positional")  # links have six coordinates, and joints give way
UNTURNABLE = 1e8  # kg m^2: a second of 1000 N m turns it by 5e-6
FRAMES = 2  # of Brax's ant's steps in one of ours: 0.1 s, as HIRO has it
GIVE_UP = 20  # steps on its back, from which it does not get up, after which training starts anew
FOOT, TORSO, CORNER = 1, 2, 4  # what touches walls, as MuJoCo's collision bits


class Maze(NamedTuple):
    """A plan, rows from low to high y: `#` a wall, `a` the ant's cell, `b` a block that it can push."""

    rows: tuple[str, ...]
    goal: tuple[float, float]  # m, from the ant's cell

    def cells(self, kind: str) -> list[tuple[int, int]]:
        """Column and row of every cell of a kind."""
        plan = enumerate(self.rows)
        return [(x, y) for y, row in plan for x, cell in enumerate(row) if cell == kind]

    def middle(self, x: float, y: float) -> tuple[float, float]:
        """Of a column and row, in m from the ant's cell."""
        [(ant_x, ant_y)] = self.cells("a")
        return (x - ant_x) * SIDE, (y - ant_y) * SIDE

    def walls(self) -> Iterator[tuple[float, float, float]]:
        """Middle (x, y) and half the length along x of each wall, one for a run of cells, in m."""
        for y, row in enumerate(self.rows):
            for kind, run in itertools.groupby(enumerate(row), key=lambda cell: cell[1]):
                columns = [x for x, _ in run]
                if kind == "#":
                    yield *self.middle(float(np.mean(columns)), float(y)), 0.5 * SIDE * len(columns)


PUSH = Maze(("#####", "# a##", "# b #", "## ##", "#####"), goal=(0.0, 19.0))
MAZE = Maze(("#####", "#a  #", "### #", "#   #", "#####"), goal=(0.0, 16.0))


class AntInMaze(PipelineEnv):
    """Brax's ant, walking to a goal among walls.

    Observation: the state, q and qd: (29,), or (33,) with a block (its place and velocity last of each).
    Action: (8,), Brax's ant's. Reward: -0.1 times the distance of the torso to the goal, m. Never
    terminates; episodes of 400 steps of 0.1 s. `metrics["success"]`: within 5 m of the goal.
    `info["pace"]`: how fast the torso nears the goal, m/s, for agents that train on it too
    (`pace_bonus`). The best policy stays the best: it is the reward's potential that grows.
    `info["truncation"]`: 1 where the ant has lain on its back for two seconds: agents do not learn from
    what follows. Evaluation goes on, as the task does.
    Collisions: torso and feet with walls, the ground and the block; the block's four corners with
    walls. It slides on two joints without friction, as HIRO's does (`positional` slows it), and cannot turn.
    Physics and its numbers (gears, physics' time step, noise of the start) are those of Brax's ant on the
    same backend. Source: the layouts of Nachum et al., 2018 (HIRO), as used by Huang et al., ICML 2023; the
    block's mass, and what collides, are ours. So are the motors, Brax's 150 N m: with HIRO's 30 the ant
    on `spring` learned to stand still.

    Args:
        maze: the plan.
        backend: Brax's physics.
    """

    episode_length = 400

    def __init__(self, maze: Maze, backend: str = "spring") -> None:
        ant = Ant(backend=backend)
        sys = mjcf.loads(model(maze))
        sys = sys.replace(opt=ant.sys.opt, actuator=ant.sys.actuator)
        if backend in MAXIMAL:
            sys = unturnable(sys, len(maze.cells("b")))
        super().__init__(sys, backend=backend, n_frames=FRAMES * ant._n_frames)
        self.maze = maze
        self.noise = ant._reset_noise_scale

    def reset(self, rng: Key) -> State:
        """In the ant's cell, with the noise of Brax's ant; the block is at rest in its own."""
        q_key, qd_key = jax.random.split(rng)
        ant_q, ant_qd = 15, 14
        q = jax.random.uniform(q_key, (ant_q,), minval=-self.noise, maxval=self.noise)
        qd = self.noise * jax.random.normal(qd_key, (ant_qd,))
        pipeline_state = self.pipeline_init(
            self.sys.init_q.at[:ant_q].add(q), jnp.zeros(self.sys.qd_size()).at[:ant_qd].set(qd)
        )
        zero = jnp.zeros(())
        return State(
            pipeline_state,
            self._observe(pipeline_state),
            zero,
            zero,
            {"success": zero},
            {"pace": zero, "down": zero, "truncation": zero},
        )

    def step(self, state: State, action: Array) -> State:
        """Two steps of Brax's ant, 0.1 s, with the same action."""
        before = self._distance(state.pipeline_state)
        pipeline_state = self.pipeline_step(state.pipeline_state, action)
        distance = self._distance(pipeline_state)
        down = jnp.where(_upright(pipeline_state) < 0.0, state.info["down"] + 1.0, 0.0)
        seen = {
            "pace": (before - distance) / self.dt,
            "down": down,
            "truncation": (down >= GIVE_UP).astype(distance.dtype),
        }
        return state.replace(
            pipeline_state=pipeline_state,
            obs=self._observe(pipeline_state),
            reward=-0.1 * distance,
            metrics={"success": (distance < NEAR).astype(distance.dtype)},
            info=state.info | seen,
        )

    def walls(self) -> list[np.ndarray]:
        """Outlines (5, 2) of the walls, in m: for pictures."""
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
        return [
            np.array([x, y]) + corners * np.array([half, 0.5 * SIDE])
            for x, y, half in self.maze.walls()
        ]

    def _distance(self, pipeline_state) -> Array:
        """Of the torso to the goal, m; its gradient at the goal is zero."""
        offset = pipeline_state.x.pos[0, :2] - jnp.array(self.maze.goal)
        return jnp.sqrt(jnp.sum(offset**2) + 1e-6)

    def _observe(self, pipeline_state) -> Array:
        return jnp.concatenate([pipeline_state.q, pipeline_state.qd])


def unturnable(sys: System, blocks: int) -> System:
    """The last links, which only slide, with so much inertia that nothing turns them.

    Where links have six coordinates, joints are springs: pushed at its end a block of eight metres turns by
    20 degrees, stays out of the gap, and lets by whoever pushed it. In generalized coordinates nothing can
    turn it, as on rails. The other links' inertia is taken as Brax's ant has it on these backends, 1.
    """
    links = sys.num_links()
    turns = np.where(np.arange(links) < links - blocks, 1.0, UNTURNABLE)
    inertia = sys.link.inertia.replace(i=jnp.asarray(turns[:, None, None] * np.eye(3)))
    # Inertia is to count as it stands here, and not as 1.
    return sys.replace(link=sys.link.replace(inertia=inertia), spring_inertia_scale=0.0)


def _upright(pipeline_state) -> Array:
    """How far up the torso's own upwards points: 1 as it stands, -1 on its back."""
    _, x, y, _ = pipeline_state.x.rot[0]
    return 1.0 - 2.0 * (x**2 + y**2)


def model(maze: Maze) -> str:
    """Brax's ant's MJCF, with the maze around it."""
    path = resources.files("brax") / "envs" / "assets" / "ant.xml"
    root = ElementTree.fromstring(path.read_text())
    world = root.find("worldbody")
    torso = root.find(".//geom[@name='torso_geom']")
    ground = root.find(".//geom[@name='floor']")
    start = root.find(".//numeric[@name='init_qpos']")
    assert world is not None and torso is not None and ground is not None and start is not None
    torso.set("contype", str(TORSO))
    ground.set("conaffinity", str(FOOT | TORSO))
    for x, y, half in maze.walls():
        ElementTree.SubElement(
            world,
            "geom",
            type="box",
            pos=f"{x} {y} 0",
            size=f"{half} {0.5 * SIDE} {HEIGHT}",
            conaffinity=str(FOOT | TORSO | CORNER),
            rgba="0.6 0.6 0.65 1",
        )
    for cell in maze.cells("b"):
        x, y = maze.middle(*map(float, cell))
        body = ElementTree.SubElement(world, "body", name="block", pos=f"{x} {y} 0")
        for axis in ("1 0 0", "0 1 0"):
            ElementTree.SubElement(
                body,
                "joint",
                type="slide",
                axis=axis,
                limited="false",
                armature="0",
                damping="0",
            )
        ElementTree.SubElement(
            body,
            "geom",
            type="box",
            size=f"{BLOCK} {BLOCK} {HEIGHT}",
            mass=str(BLOCK_MASS),
            conaffinity=str(FOOT | TORSO),
            rgba="0.8 0.5 0.2 1",
        )
        reach = BLOCK - 0.1
        for corner in itertools.product((-reach, reach), repeat=2):
            ElementTree.SubElement(
                body,
                "geom",
                type="sphere",
                pos=f"{corner[0]} {corner[1]} 0",
                size="0.1",
                mass="0",
                contype=str(CORNER),
            )
        start.set("data", start.get("data", "") + " 0 0")
    return ElementTree.tostring(root, encoding="unicode")


def _seen(maze: Maze, backend: str) -> ObjectCentric:
    """With positional features of the torso's place, and of the block's; everything raw is shrunk.

    Of one frequency: with six, half of what is seen turns over every few metres, and an ant that has to
    walk as well learns it late, and badly.
    """
    reach = SIDE * len(maze.rows) / 2

    def objects(state: State) -> Array:
        q = state.pipeline_state.q
        return jnp.concatenate([q[:2], q[15:]]) / reach

    return ObjectCentric(AntInMaze(maze, backend), objects, shrink=0.1, frequencies=1)


def ant_push(backend: str = "spring") -> ObjectCentric:
    """AntPush: around a block, which opens the way to the goal only when it is pushed aside."""
    return _seen(PUSH, backend)


def ant_maze(backend: str = "spring") -> ObjectCentric:
    """AntMaze: a corridor with two turns; the goal is behind the wall."""
    return _seen(MAZE, backend)
