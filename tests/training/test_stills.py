from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from rpgjax.training.replay import Episode
from rpgjax.training.stills import draw, moments, strip


def rolling_ball(frames, height=0.5, speed=0.1):
    """A ball of 0.2 m on the ground plane's normal, `speed` metres further after each step."""
    sys = SimpleNamespace(
        geom_type=np.array([0, 2]),
        geom_size=np.array([[40.0, 40, 40], [0.2, 0, 0]]),
        geom_pos=np.zeros((2, 3)),
        geom_quat=np.tile([1.0, 0, 0, 0], (2, 1)),
        geom_bodyid=np.array([0, 1]),
        geom_rgba=np.full((2, 4), 0.5),
    )
    position = np.zeros((frames, 1, 3))
    position[:, 0, 0] = np.arange(frames) * speed
    position[:, 0, 2] = height
    rotation = np.tile([1.0, 0, 0, 0], (frames, 1, 1))
    shape = (frames, 1)
    return Episode(np.zeros(shape), np.zeros(shape), np.ones(frames), position, rotation), sys


def test_moments_start_in_the_middle_at_even_distances():
    episode, _ = rolling_ball(100)
    poses = moments(episode, dt=0.05, apart=0.1, count=4)
    np.testing.assert_allclose(poses.position[:, 0, 0], [5.0, 5.2, 5.4, 5.6])
    np.testing.assert_allclose(poses.seconds, [2.55, 2.65, 2.75, 2.85])  # poses follow their step
    early = moments(episode, dt=0.05, start=0.0, apart=0.1, count=4)
    np.testing.assert_allclose(early.position[:, 0, 0], [0.0, 0.2, 0.4, 0.6])


def test_a_short_episode_s_end_is_repeated():
    poses = moments(rolling_ball(3)[0], dt=0.1, apart=0.1, count=5)
    np.testing.assert_allclose(poses.position[:, 0, 0], [0.0, 0.1, 0.2, 0.2, 0.2])


def test_the_camera_follows_and_the_ground_passes_by():
    episode, sys = rolling_ball(40, speed=0.25)
    axes = Figure().subplots(1, 3)
    poses = moments(episode, dt=0.1, start=1.0, apart=0.2, count=3)
    strip(axes, poses, sys)
    for axis, x in zip(axes, (2.5, 3.0, 3.5), strict=True):
        shadow, ball = (patch.get_xy() for patch in axis.patches)
        width, height = np.ptp(ball, axis=0)
        assert width == pytest.approx(0.4, rel=0.01) and height == pytest.approx(0.4, rel=0.01)
        middle = (ball.min(axis=0) + ball.max(axis=0)) / 2
        np.testing.assert_allclose(middle, [0.0, 0.5 * np.cos(np.deg2rad(15))], atol=0.01)
        assert np.ptp(shadow[:, 1]) < 0.15  # a circle on the ground, from the side
        metres = [line.get_xdata()[0] for line in axis.lines]
        assert all(round(metre + x, 6) == round(metre + x) for metre in metres)
    assert [len(axis.lines) for axis in axes] == [0, 1, 0]


def test_a_picture_is_written(tmp_path):
    episode, sys = rolling_ball(50)
    draw(episode, sys, 0.05, "a ball", tmp_path / "replay.png")
    assert (tmp_path / "replay.png").read_bytes().startswith(b"\x89PNG")
