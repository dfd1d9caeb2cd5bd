from dataclasses import replace

import jax
import numpy as np
import pytest
from toy import toy_agent

from rpgjax.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    DamagedCheckpoint,
    from_host,
    to_host,
)
from rpgjax.training.settings import TrainSettings

SETTINGS = TrainSettings("toy", "line")


def raw(state):
    return [
        np.asarray(
            jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        )
        for x in jax.tree.leaves(state)
    ]


@pytest.mark.parametrize("seeds", [1, 3])
def test_round_trip_is_bitwise_and_keeps_typed_keys(tmp_path, seeds):
    agent = toy_agent()
    init = jax.vmap(agent.init) if seeds > 1 else agent.init
    keys = jax.random.split(jax.random.key(1, impl="rbg"), seeds)
    state = init(keys if seeds > 1 else keys[0])
    restored = []
    for index, host in enumerate(to_host(state, seeds)):
        checkpoints = Checkpoints(tmp_path / str(index), SETTINGS)
        checkpoints.save(5, host, None)
        checkpoints.wait()
        restored.append(checkpoints.restore(5))
        checkpoints.close()
    again = from_host(restored, jax.eval_shape(lambda: state))
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for before, after in zip(raw(state), raw(again), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
    assert jax.random.key_impl(again.key) == jax.random.key_impl(state.key)
    jax.random.split(again.key) if seeds == 1 else jax.vmap(jax.random.split)(again.key)


def test_keeps_the_last_two_and_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, SETTINGS)
    host = {"x": np.arange(3.0)}
    for update, score in ((1, 1.0), (2, 9.0), (3, None), (4, 3.0), (5, None), (6, None)):
        checkpoints.save(update, host, score)
    checkpoints.wait()
    assert checkpoints.updates() == [2, 5, 6]
    assert checkpoints.best() == 2
    checkpoints.forget_after(5)
    checkpoints.close()
    assert Checkpoints(tmp_path, SETTINGS, write=False).updates() == [2, 5]


def test_the_best_is_kept_by_a_process_that_did_not_save_it(tmp_path):
    host = {"x": np.arange(3.0)}
    for part in (((1, 9.0), (2, None), (3, None)), ((4, None), (5, 3.0), (6, None))):
        checkpoints = Checkpoints(tmp_path, SETTINGS)
        for update, score in part:
            checkpoints.save(update, host, score)
        checkpoints.wait()
        checkpoints.close()
    again = Checkpoints(tmp_path, SETTINGS, write=False)
    assert again.updates() == [1, 5, 6] and again.best() == 1


def saved(folder, state):
    checkpoints = Checkpoints(folder, SETTINGS)
    checkpoints.save(1, state, None)
    checkpoints.wait()
    checkpoints.close()


def test_another_configuration_is_refused(tmp_path):
    saved(tmp_path, {"x": np.zeros(3)})
    with pytest.raises(CheckpointError, match="another configuration: seed was 0, and is 1"):
        Checkpoints(tmp_path, replace(SETTINGS, seed=1)).restore(1)
    Checkpoints(tmp_path, replace(SETTINGS, updates=7)).restore(1)


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_damage_is_noticed(tmp_path, damage):
    values = np.random.default_rng(0).normal(size=5000)
    saved(tmp_path, {"x": values})
    data = max((tmp_path / "1").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else -1)
    content = bytearray(data.read_bytes())
    if damage == "truncate":
        data.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 0x10
        data.write_bytes(content)
    else:
        data.unlink()
    with pytest.raises(DamagedCheckpoint, match="damaged"):
        Checkpoints(tmp_path, SETTINGS).restore(1)


def test_another_agents_state_is_refused():
    def abstract(agent):
        return jax.eval_shape(agent.init, jax.random.key(0))

    small, large = toy_agent(3), toy_agent(4)
    host = to_host(small.init(jax.random.key(0)), 1)
    with pytest.raises(CheckpointError, match=r"mean.*float32\(3,\) there.*\(4,\) here"):
        from_host(host, abstract(large))
    del host[0][".flag"]
    with pytest.raises(CheckpointError, match=r"only one of the two has \.flag"):
        from_host(host, abstract(small))
