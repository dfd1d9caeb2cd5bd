"""The world model's shapes and what depends on what."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.models.world_model import GRU, world_model

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
    # Each on its own: of the action with s' held where it is, and of s', as it is read off h.
    flat = params | {"out": jax.tree.map(jnp.zeros_like, params["out"])}
    slope = jax.jacobian(lambda a: MODEL.step(flat, state, a).reward)(jnp.zeros(2))
    assert np.any(slope != 0)

    def reward(out):
        return MODEL.step(params | {"out": out}, state, jnp.zeros(2)).reward

    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(jax.grad(reward)(params["out"])))


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


def test_following_actions_is_stepping_by_each():
    params = MODEL.init(jax.random.key(0))
    state = first = MODEL.encode(params, jnp.ones(3))
    actions = jax.random.normal(jax.random.key(1), (4, 2))
    followed = MODEL.follow(params, first, actions)
    for t, action in enumerate(actions):
        reached = MODEL.step(params, state, action)
        state = reached.state
        for mine, theirs in zip(jax.tree.leaves(followed), jax.tree.leaves(reached), strict=True):
            np.testing.assert_allclose(mine[t], theirs, rtol=1e-5, atol=1e-6)


def test_the_gated_unit_is_the_fields():
    """Against flax's, whose gates have kernels of their own."""
    width, inputs = 4, 3
    theirs = nn.GRUCell(width)
    h, x = jax.random.normal(jax.random.key(1), (5, width)), jnp.ones((5, inputs))
    params = theirs.init(jax.random.key(0), h, x)["params"]
    recurrent = {"kernel": jnp.concatenate([params[f"h{g}"]["kernel"] for g in "rzn"], axis=1)}
    recurrent["bias"] = jnp.concatenate([jnp.zeros(2 * width), params["hn"]["bias"] + 0.3])
    params["hn"]["bias"] += 0.3
    mine = {
        "of_input": {
            part: jnp.concatenate([params[f"i{g}"][part] for g in "rzn"], axis=-1)
            for part in ("kernel", "bias")
        },
        "of_hidden": recurrent,
    }
    expected, _ = theirs.apply({"params": params}, h, x)
    got = GRU(width).apply({"params": mine}, h, x, method="step")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_the_gates_recurrent_kernels_are_orthogonal_each():
    h = jnp.zeros(4)
    kernel = GRU(4).init(jax.random.key(0), h, h, method="step")["params"]["of_hidden"]["kernel"]
    for gate in jnp.split(kernel, 3, axis=1):
        np.testing.assert_allclose(gate @ gate.T, jnp.eye(4), atol=1e-4)
