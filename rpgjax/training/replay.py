"""`replay.html`, one episode to watch in any browser, offline, and `replay.png`, stills of it.

Brax's own viewer fetches its 3D library from the network when the page opens. viser ships its
client whole, in one file, and records scenes; no browser takes part in the recording.
"""

import base64
import contextlib
import html
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs import Env

from rpgjax.agents.agent import Agent, AgentState
from rpgjax.envs.episodes import is_finite, stepped
from rpgjax.training import stills
from rpgjax.training.evaluate import evaluation_key
from rpgjax.training.metrics import write_whole
from rpgjax.training.shapes import shapes_of

if TYPE_CHECKING:
    from rpgjax.training.launch import Run

_FRAMES_PER_SECOND = 30.0  # of simulated time, at most


class Episode(NamedTuple):
    """One episode of the deterministic policy, as NumPy arrays with the time in front."""

    observation: np.ndarray  # (T, obs), where the action was taken
    action: np.ndarray  # (T, action)
    reward: np.ndarray  # (T,)
    position: np.ndarray | None  # (T, link, 3) metres, of the links after each step
    rotation: np.ndarray | None  # (T, link, 4) quaternions, w first


def record(
    agent: Agent, env: Env, state: AgentState, episode_length: int, seed: int = 0
) -> Episode:
    """Plays one episode with the deterministic policy, up to its end, or to where its dynamics break.

    Raises:
        ValueError: nothing can be shown, for they break in its first step.
    """

    def play(state: AgentState, key: jax.Array) -> Any:
        policy = agent.policy(state)
        reset_key, carry_key = jax.random.split(key)
        start = jax.tree.map(jnp.asarray, env.reset(reset_key))

        def step(now: tuple[Any, Any, jax.Array], _: None) -> tuple[Any, Any]:
            env_state, carry, alive = now
            carry, action = policy.mode(carry, env_state.obs)
            after = stepped(env, env_state, action)
            pose = getattr(after.pipeline_state, "x", None)
            links = None if pose is None else (pose.pos, pose.rot)
            shown = alive & is_finite(after)
            seen = (env_state.obs, action, after.reward, links, shown)
            return (after, carry, shown & (after.done == 0)), seen

        carry = policy.reset(start.obs, carry_key)
        first = (start, carry, jnp.ones((), bool))
        return jax.lax.scan(step, first, None, length=episode_length)[1]

    seen = jax.jit(play)(state, evaluation_key(seed, 0))
    observation, action, reward, links, alive = jax.tree.map(np.asarray, seen)
    length = int(alive.sum())
    if length == 0:
        raise ValueError("the dynamics break in the episode's first step")
    position, rotation = (None, None) if links is None else links
    return Episode(
        *(
            None if array is None else array[:length]
            for array in (observation, action, reward, position, rotation)
        )
    )


def render(run: "Run", path: Path) -> None:
    """Plays an episode of a run of one seed; writes it as a page, and stills of it beside the page."""
    episode = record(run.agent, run.env, run.state, run.episode_length, run.settings.seed)
    total = float(episode.reward.sum())
    title = (
        f"{run.settings.algorithm} on {run.settings.env}, update {run.update}: return {total:,.1f}"
    )
    write_whole(path, lambda file: file.write_text(page_of(episode, run.env, title)))
    if has_scene(episode, run.env):
        dt = float(run.env.dt)
        picture = path.with_suffix(".png")
        write_whole(picture, lambda file: stills.draw(episode, run.env.sys, dt, title, file))


def has_scene(episode: Episode, env: Env) -> bool:
    """Whether an episode shows bodies of a Brax `System`."""
    return getattr(env, "sys", None) is not None and episode.position is not None


def page_of(episode: Episode, env: Env, title: str) -> str:
    """The scene in motion where the task has a Brax `System`, plots over time elsewhere."""
    if not has_scene(episode, env):
        return plot_page(episode, title)
    return scene_page(episode, env.sys, float(env.dt), title)


def scene_page(episode: Episode, sys: Any, dt: float, title: str) -> str:
    """A page with a System's geometries in motion.

    Args:
        episode: with positions and rotations of the System's links.
        sys: a `brax.base.System`, for its geometries.
        dt: seconds between two frames of the episode.
        title: the page's title and caption.
    """
    assert episode.position is not None and episode.rotation is not None
    with _server() as server:
        scene = server.scene
        server.gui.configure_theme(control_layout="collapsible", show_logo=False)
        scene.set_up_direction("+z")
        scene.configure_environment_map(None)
        scene.add_light_hemisphere("/light", intensity=1.5)
        # The world moves under the camera, so that the body stays in view.
        world = scene.add_frame("/world", show_axes=False)
        scene.add_grid(
            "/world/floor",
            400.0,
            400.0,
            cell_size=1.0,
            section_size=5.0,
            fade_distance=60.0,
            plane_color=(236, 239, 243),
            plane_opacity=1.0,
            shadow_opacity=0.3,
        )
        links = [
            scene.add_frame(f"/world/link{index}", show_axes=False)
            for index in range(episode.position.shape[1])
        ]
        _add_shapes(scene, sys)
        reach = max(float(np.ptp(episode.position[0], axis=0).max()), 0.5)
        centre = episode.position[0].mean(axis=0)
        server.initial_camera.look_at = (0.0, 0.0, float(centre[2]))
        server.initial_camera.position = (1.2 * reach, -3.4 * reach, float(centre[2]) + 1.1 * reach)

        serializer = server.get_scene_serializer()
        stride = max(1, round(1 / (_FRAMES_PER_SECOND * dt)))
        for index in range(0, len(episode.reward), stride):
            with server.atomic():
                x, y = _smooth(episode.position[:, 0, :2], index)
                world.position = (-float(x), -float(y), 0.0)
                poses = zip(episode.position[index], episode.rotation[index], strict=True)
                for link, (position, rotation) in zip(links, poses, strict=True):
                    link.position, link.wxyz = position, rotation
            serializer.insert_sleep(stride * dt)
        page = serializer.as_html()
    heading = f"<title>{html.escape(title)}</title>"
    caption = (
        '<div style="position:fixed;left:0;right:0;top:10px;text-align:center;pointer-events:none;'
        f'font:14px system-ui,sans-serif;color:#333">{html.escape(title)}</div>'
    )
    head, body = page.rsplit("</body>", 1)
    return head.replace("<head>", f"<head>{heading}", 1) + caption + "</body>" + body


def plot_page(episode: Episode, title: str) -> str:
    """A page with observations, actions and rewards over the steps, for tasks without geometry."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    parts = (
        ("observation", episode.observation),
        ("action", episode.action),
        ("reward", episode.reward[:, None]),
    )
    for axis, (name, values) in zip(figure.subplots(3, 1, sharex=True), parts, strict=True):
        for column in range(min(values.shape[1], 8)):
            axis.plot(
                values[:, column], marker="." if len(values) < 60 else None, label=str(column)
            )
        axis.set_ylabel(name)
        axis.grid(alpha=0.25)
        if values.shape[1] > 1:
            axis.legend(frameon=False, ncols=8, fontsize="small")
    axis.set_xlabel("step")
    picture = io.BytesIO()
    figure.savefig(picture, dpi=130)
    data = base64.b64encode(picture.getvalue()).decode()
    return (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        "</head>"
        '<body style="font-family:system-ui,sans-serif;max-width:60rem;margin:2rem auto">'
        f'<h1 style="font-size:1.1rem">{html.escape(title)}</h1>'
        f'<img style="width:100%" alt="observation, action and reward over {len(episode.reward)} '
        f'steps" src="data:image/png;base64,{data}"></body></html>\n'
    )


def _add_shapes(scene: Any, sys: Any) -> None:
    """Every shape of a Brax System as a mesh below its link's frame."""
    for index, shape in enumerate(shapes_of(sys)):
        parent = "/world" if shape.link < 0 else f"/world/link{shape.link}"
        scene.add_mesh_simple(
            f"{parent}/shape{index}",
            shape.vertices.astype(np.float32),
            shape.faces.astype(np.uint32),
            color=shape.colour,
        )


def _smooth(path: np.ndarray, index: int, width: int = 10) -> np.ndarray:
    """A path's mean around an index: the camera does not follow every jolt."""
    return path[max(0, index - width) : index + width + 1].mean(axis=0)


@contextlib.contextmanager
def _server() -> Iterator[Any]:
    """A viser server for recording, on a free local port, that says nothing."""
    import socket

    with contextlib.redirect_stdout(open(os.devnull, "w")):
        import viser

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = viser.ViserServer(host="127.0.0.1", port=port, verbose=False)
        try:
            yield server
        finally:
            server.stop()
