import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import Line, toy_agent

from rpgjax.training.replay import Episode, page_of, record, scene_page


def loads(page):
    """Everything that a browser would fetch when it opens the page."""
    markup = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    sources = re.findall(r"<(?:link|img|iframe|source)[^>]+?(?:href|src)=[\"']([^\"']+)", markup)
    sources += re.findall(r"<script[^>]*?\ssrc=[\"']([^\"']+)", page)
    sources += re.findall(r"@import\s+[\"'(]*(?:url\()?([^\"')]+)", markup)
    return [source for source in sources if not source.startswith("data:")]


def walker(frames):
    """Two links that move, with one geometry of each finite kind."""
    kinds = [0, 2, 3, 4, 5, 6]
    count = len(kinds)
    sys = SimpleNamespace(
        geom_type=np.array(kinds),
        geom_size=np.full((count, 3), 0.2),
        geom_pos=np.zeros((count, 3)),
        geom_quat=np.tile([1.0, 0, 0, 0], (count, 1)),
        geom_bodyid=np.array([0, 1, 1, 2, 2, 2]),
        geom_rgba=np.full((count, 4), 0.5),
    )
    position = np.zeros((frames, 2, 3))
    position[:, :, 0] = np.arange(frames)[:, None] * 0.1
    position[:, :, 2] = 0.5
    rotation = np.tile([1.0, 0, 0, 0], (frames, 2, 1))
    episode = Episode(
        np.zeros((frames, 3)), np.zeros((frames, 1)), np.ones(frames), position, rotation
    )
    return episode, sys, 0.05


def test_scene_opens_offline_and_holds_the_frames():
    pages = [scene_page(*walker(frames), "a <title>") for frames in (3, 300)]
    long = pages[1]
    assert loads(long) == []
    assert "a &lt;title&gt;" in long
    embedded = [re.search(r'__VISER_EMBED_DATA__="([^"]+)"', page).group(1) for page in pages]
    assert len(embedded[1]) > len(embedded[0]) + 1000  # frames were recorded, compressed
    assert len(long) < 4e6


def test_task_without_a_system_is_plotted_offline():
    agent, env = toy_agent(), Line(6)
    episode = record(agent, env, agent.init(jax.random.key(0)), 100)
    page = page_of(episode, env, "toy")
    assert loads(page) == []
    assert f"over {len(episode.reward)} steps" in page


class Breaking(Line):
    """Breaks in the step to a count."""

    def __init__(self, count):
        super().__init__(6)
        self.count = count

    def reset(self, rng):
        state = super().reset(rng)
        return state.replace(obs=state.obs.at[1].set(6.0))

    def step(self, state, action):
        state = super().step(state, action)
        return state.replace(obs=jnp.where(state.obs[0] == self.count, jnp.nan, state.obs))


def test_recording_ends_where_the_dynamics_break():
    agent = toy_agent()
    state = agent.init(jax.random.key(0))
    episode = record(agent, Breaking(4), state, 100)
    assert len(episode.reward) == 3 and np.isfinite(episode.observation).all()
    with pytest.raises(ValueError, match="first step"):
        record(agent, Breaking(1), state, 100)


def test_recording_ends_where_the_episode_does():
    agent, env = toy_agent(), Line(6)
    episode = record(agent, env, agent.init(jax.random.key(0)), 100)
    assert 1 <= len(episode.reward) <= 6
    assert len(episode.reward) == int(episode.observation[0, 1])
    assert (episode.reward < 1000).all()
    assert episode.observation.shape == (len(episode.reward), 2)


class InPlace(Line):
    """Writes a number into the metrics of the state that it is given, as Brax's own tasks do."""

    def reset(self, rng):
        return super().reset(rng).replace(metrics={"paid": jnp.zeros(())})

    def step(self, state, action):
        state.metrics.update(paid=1.0)
        return super().step(state, action)


def test_tasks_that_write_into_the_state_they_are_given_can_be_recorded():
    agent = toy_agent()
    episode = record(agent, InPlace(6), agent.init(jax.random.key(0)), 100)
    assert 1 <= len(episode.reward) <= 6
