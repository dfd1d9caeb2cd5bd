"""The world model's shapes and what depends on what."""

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.models.world_model import world_model

MODEL = world_model(observation_size=3, action_size=2, size=5, hidden=(16, 8))


def test_it_steps_from_an_encoded_observation():
    params = MODEL.init(jax.random.key(0))
    state = MODEL.encode(params, jnp.ones(3))
    assert state.obs.shape == (5,) and state.hidden.shape == (8,)
    reached = MODEL.step(params, state, jnp.zeros(2))
    assert reached.state.obs.shape == (5,) and reached.reward.shape == ()
    assert MODEL.survival(params, reached.state.obs).shape == ()


def test_reward_belongs_to_the_state_reached_and_the_action():
    params = MODEL.init(jax.random.key(0))
    state = MODEL.encode(params, jnp.ones(3))
    one = MODEL.step(params, state, jnp.zeros(2))
    same_s_other_h = MODEL.step(params, state._replace(obs=state.obs + 7.0), jnp.zeros(2))
    # Only the recurrent state is carried: s itself is read off it.
    np.testing.assert_allclose(one.state.obs, same_s_other_h.state.obs)
    np.testing.assert_allclose(one.reward, same_s_other_h.reward)
    slope = jax.jacobian(lambda a: MODEL.step(params, state, a).reward)(jnp.zeros(2))
    assert np.any(slope != 0)


def test_gradients_reach_every_part():
    params = MODEL.init(jax.random.key(0))

    def loss(params):
        state = MODEL.encode(params, jnp.ones(3))
        for _ in range(2):
            reached = MODEL.step(params, state, jnp.ones(2))
            state = reached.state
        return reached.reward + MODEL.survival(params, state.obs) + state.obs.sum()

    gradient = jax.grad(loss)(params)
    for name, part in gradient.items():
        assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(part)), name
