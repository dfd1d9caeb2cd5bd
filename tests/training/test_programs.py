"""Seeds in one program."""

import jax
import jax.numpy as jnp

from rpgjax.training.programs import over_seeds


def test_seeds_in_turn_equal_seeds_one_by_one_and_batched():
    def update(state):
        key, noise = jax.random.split(state["key"])
        x = state["x"] * 0.5 + jax.random.normal(noise, (3,))
        return {"x": x, "key": key}, {"norm": jnp.linalg.norm(x)}

    keys = jax.random.split(jax.random.key(0), 4)
    states = {"x": jnp.arange(12.0).reshape(4, 3), "key": keys}
    together, metrics = jax.jit(over_seeds(update))(states)
    batched, _ = jax.jit(jax.vmap(update))(states)
    alone = [jax.jit(update)(jax.tree.map(lambda leaf, i=i: leaf[i], states)) for i in range(4)]
    assert metrics["norm"].shape == (4,)
    for index, (state, metric) in enumerate(alone):
        assert jnp.allclose(together["x"][index], state["x"], rtol=1e-6)
        assert jnp.allclose(metrics["norm"][index], metric["norm"], rtol=1e-6)
    assert jnp.allclose(together["x"], batched["x"], rtol=1e-6)
    assert not jnp.array_equal(together["x"][0], together["x"][1])
    assert jnp.array_equal(
        jax.random.key_data(together["key"]), jax.random.key_data(batched["key"])
    )
