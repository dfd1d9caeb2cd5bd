"""`replay.png`: an episode at a few moments, side by side, for where a page cannot be opened."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from rpgjax.training.shapes import Shape, ground_height, shapes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rpgjax.training.replay import Episode

MOMENTS = 8
APART = 0.1  # seconds
_SIDE, _ABOVE = np.deg2rad(15.0), np.deg2rad(75.0)  # the camera's elevation
_FLAT = 0.25  # bodies lower than this part of their width are seen from above


class Moments(NamedTuple):
    """Poses of a System's links, N times."""

    seconds: np.ndarray  # (N,), since the episode began
    position: np.ndarray  # (N, link, 3) metres
    rotation: np.ndarray  # (N, link, 4) quaternions, w first


def moments(
    episode: "Episode",
    dt: float,
    start: float | None = None,
    apart: float = APART,
    count: int = MOMENTS,
) -> Moments:
    """Moments of an episode with poses; an end that comes before the last of them is repeated.

    Args:
        episode: with positions and rotations of the links.
        dt: seconds of a step.
        start: seconds of the first moment; None takes the episode's middle.
        apart: seconds between moments.
        count: how many.
    """
    assert episode.position is not None and episode.rotation is not None
    length, stride = len(episode.reward), max(1, round(apart / dt))
    first = min(length // 2, max(0, length - stride * count)) if start is None else start / dt
    steps = np.minimum(round(first) + stride * np.arange(count), length - 1)
    return Moments((steps + 1) * dt, episode.position[steps], episode.rotation[steps])


def strip(axes: Sequence["Axes"], poses: Moments, sys: Any) -> None:
    """Draws each moment on axes of its own, all at one scale, the camera on the first link.

    Shapes are drawn as their outlines, far ones first: MuJoCo's geometries are convex, meshes are
    drawn as if they were. Lines on the ground are a metre apart.
    """
    shapes, ground = shapes_of(sys), ground_height(sys)
    placed = [[_placed(shape, poses, now) for shape in shapes] for now in range(len(axes))]
    moving = [index for index, shape in enumerate(shapes) if shape.link >= 0]
    height, width = _extent(np.concatenate([placed[0][index] for index in moving]))
    view = _View(_ABOVE if height < _FLAT * width else _SIDE)
    centres = [np.array([*poses.position[now, 0, :2], 0.0]) for now in range(len(axes))]
    outlines = np.concatenate(
        [
            view.seen(placed[now][index] - centres[now])
            for now in range(len(axes))
            for index in moving
        ]
    )
    low, high = outlines.min(axis=0), outlines.max(axis=0)
    reach, margin = np.abs([low[0], high[0]]).max(), 0.08 * np.ptp([low, high], axis=0).max()
    for now, axis in enumerate(axes):
        if ground is not None:
            _draw_ground(axis, view, centres[now], ground, reach + margin)
        order = sorted(
            range(len(shapes)), key=lambda index: -view.depth(placed[now][index].mean(axis=0))
        )
        for index in order if ground is not None else ():
            fallen = placed[now][index] * [1, 1, 0] + [0, 0, ground]
            _fill(axis, view.seen(fallen - centres[now]), "#c9ced6", 0.0)
        for index in order:
            _fill(axis, view.seen(placed[now][index] - centres[now]), shapes[index].colour, 0.6)
        axis.set(xlim=(-reach - margin, reach + margin), ylim=(low[1] - margin, high[1] + margin))
        axis.set_aspect("equal")
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)


def draw(episode: "Episode", sys: Any, dt: float, title: str, path: Path) -> None:
    """A strip of moments from the middle of an episode, as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    poses = moments(episode, dt)
    figure = Figure(figsize=(1.6 * MOMENTS, 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, MOMENTS)
    strip(axes, poses, sys)
    for axis, seconds in zip(axes, poses.seconds, strict=True):
        axis.set_xlabel(f"{seconds:.2f} s", fontsize="small")
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=110, format="png")


class _View:
    """A camera without perspective: x is to the right, y away from it."""

    def __init__(self, elevation: float) -> None:
        sine, cosine = np.sin(elevation), np.cos(elevation)
        self._plane = np.array([[1.0, 0.0], [0.0, sine], [0.0, cosine]])
        self._away = np.array([0.0, cosine, -sine])

    def seen(self, points: np.ndarray) -> np.ndarray:
        """Where points (N, 3) are in the picture, (N, 2)."""
        return points @ self._plane

    def depth(self, point: np.ndarray) -> float:
        """How far away a point (3,) is."""
        return float(point @ self._away)


def _placed(shape: Shape, poses: Moments, now: int) -> np.ndarray:
    """A shape's vertices (V, 3) in the world."""
    if shape.link < 0:
        return shape.vertices
    turn = Rotation.from_quat(poses.rotation[now, shape.link], scalar_first=True)
    return turn.apply(shape.vertices) + poses.position[now, shape.link]


def _extent(points: np.ndarray) -> tuple[float, float]:
    """Height and larger horizontal side of the box around points (N, 3)."""
    x, y, z = np.ptp(points, axis=0)
    return z, max(x, y)


def _fill(axis: "Axes", points: np.ndarray, colour: Any, edge: float) -> None:
    """The outline of points (N, 2), filled."""
    outline = points[ConvexHull(points).vertices]
    axis.fill(*outline.T, facecolor=colour, edgecolor="white", linewidth=edge)


def _draw_ground(
    axis: "Axes", view: _View, centre: np.ndarray, height: float, reach: float
) -> None:
    """Lines across the direction of view's right, at every metre of x that is in sight."""
    for x in range(int(np.ceil(centre[0] - reach)), int(np.floor(centre[0] + reach)) + 1):
        ends = np.array([[x, centre[1] + side * reach, height] for side in (-1, 1)])
        axis.plot(*view.seen(ends - centre).T, color="#dde1e7", linewidth=1.2)
