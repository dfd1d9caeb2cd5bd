"""What is drawn of a latent: episodes played, and what can be read off them."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs import Wrapper

from rpgjax.agents import RPGPhysicsConfig, SHACConfig, rpg_physics, shac
from rpgjax.envs.analytic import two_routes
from rpgjax.training import latent_figures

TINY = RPGPhysicsConfig(
    num_envs=8,
    horizon=4,
    episode_length=6,
    actor_hidden=(8,),
    critic_hidden=(8,),
    encoder_hidden=(8,),
    latent="discrete",
    latent_size=3,
    bank_size=8,
    critic_minibatches=2,
)


def made(agent):
    state = jax.jit(agent.init)(jax.random.key(0))
    settings = SimpleNamespace(algorithm="rpg_physics", env="two_routes")
    return SimpleNamespace(
        agent=agent, env=two_routes(), state=state, episode_length=6, settings=settings, update=0
    )


def test_episodes_are_whole_and_hold_one_latent():
    run = made(rpg_physics(two_routes(), TINY))
    played = latent_figures.play(run, run.state, 16)
    assert played.position.shape == (16, 7, 2) and played.action.shape == (16, 6, 2)
    moved = played.position[:, 1:] - played.position[:, :-1]
    np.testing.assert_allclose(moved, 0.1 * np.clip(played.action, -1, 1), atol=1e-6)
    np.testing.assert_array_equal(played.observation, played.position[:, :-1])
    np.testing.assert_array_equal(played.z.sum(axis=1), 1.0)
    each = jax.vmap(jax.vmap(two_routes().reward))(played.position[:, 1:])
    np.testing.assert_allclose(played.returns, each.sum(axis=1), rtol=1e-5)
    again = latent_figures.play(run, run.state, 16, sampled=False)
    assert not np.allclose(again.position, played.position)


def test_every_z_of_a_few_can_be_shown_however_seldom_it_is_drawn():
    run = made(rpg_physics(two_routes(), TINY))
    z = latent_figures.drawn(run, run.state, 16)
    assert latent_figures.is_discrete(z) and z.shape == (16, 3)
    assert not latent_figures.is_discrete(z + 0.1) and not latent_figures.is_discrete(z[:, :0])
    asked = np.eye(3, dtype=np.float32)[np.arange(16) % 3]
    played = latent_figures.play(run, run.state, 16, z=asked)
    np.testing.assert_array_equal(played.z, asked)
    other = latent_figures.play(run, run.state, 16, z=np.roll(asked, 1, axis=1))
    assert not np.any(np.all(other.action == played.action, axis=(1, 2)))  # z is acted upon


class Breaks(Wrapper):
    """Breaks to the left of the way."""

    def step(self, state, action):
        state = self.env.step(state, action)
        broken = jnp.where(state.obs[1] > 0.1, jnp.nan, 0.0)
        moved = state.pipeline_state + broken
        return state.replace(obs=state.obs + broken, pipeline_state=moved)


def test_episodes_that_break_stand_still_from_there():
    run = made(rpg_physics(two_routes(), TINY))
    run.env = Breaks(two_routes())
    played = latent_figures.play(run, run.state, 16)
    broke = ~played.alive.all(axis=1)
    assert broke.any() and not broke.all()
    assert np.isfinite(played.position).all() and np.isfinite(played.returns).all()


def test_a_latent_that_shows_is_identified_and_one_that_does_not_is_not():
    run = made(rpg_physics(two_routes(), TINY))
    played = latent_figures.play(run, run.state, 12)
    blind = lambda state: lambda z, o, a: jnp.float32(0.0)  # noqa: E731
    sees = lambda state: lambda z, o, a: -30.0 * jnp.sum((z - shown(o)) ** 2)  # noqa: E731

    def shown(observation):
        return observation[:2]

    z = played.observation[:, 0, :2] + np.arange(12)[:, None]  # all differ
    played = played._replace(z=z, observation=np.repeat(z[:, None], 6, axis=1))
    run.agent = run.agent._replace(posterior=sees)
    np.testing.assert_allclose(
        latent_figures.identified(run, run.state, played), np.eye(12), atol=1e-3
    )
    run.agent = run.agent._replace(posterior=blind)
    np.testing.assert_allclose(latent_figures.identified(run, run.state, played), 1 / 12, rtol=1e-5)


@pytest.mark.parametrize(
    ("latent", "size"), [("discrete", 3), ("continuous", 3), ("continuous", 0), (None, 0)]
)
def test_a_picture_is_drawn(latent, size, tmp_path):
    if latent is None:
        config = SHACConfig(
            num_envs=8, horizon=4, episode_length=6, actor_hidden=(8,), critic_hidden=(8,)
        )
        agent = shac(two_routes(), config)
    else:
        agent = rpg_physics(two_routes(), replace(TINY, latent=latent, latent_size=size))
    latent_figures.draw(made(agent), tmp_path / "latents.png", episodes=8)
    assert (tmp_path / "latents.png").read_bytes().startswith(b"\x89PNG")


def test_a_map_of_visits_holds_all_that_was_walked():
    sides = latent_figures.square(np.array([[-1.0, 10.0], [3.0, 28.0], [0.0, -12.0]]))
    np.testing.assert_allclose(sides[1], [-13.0, 29.0])  # 40 m and a twentieth
    np.testing.assert_allclose(sides[0], [1.0 - 21.0, 1.0 + 21.0])
