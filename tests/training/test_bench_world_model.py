"""The world model's bench: what it times, and what it says."""

from rpgjax.agents import RPGConfig
from rpgjax.envs import analytic
from rpgjax.training import bench_world_model
from rpgjax.training.bench_world_model import Learning

TINY = RPGConfig(
    num_envs=3,
    steps_per_call=4,
    updates_per_call=4,
    warm_up=0,
    replay_size=120,
    batch_size=8,
    latent_size=2,
    model_size=6,
    hidden=(8, 8),
    novelty_width=8,
)


def test_one_seed_and_several_are_timed():
    said = []
    one, three = bench_world_model.measure(2, said.append, analytic.double_integrator(), TINY, 3)
    assert (one.seeds, three.seeds) == (1, 3) and len(said) == 2
    assert one.times_one == 1.0 and three.times_one > 0
    for found in (one, three):
        assert found.env_steps_per_second == 3 * found.updates_per_second > 0


def test_the_verdict_is_about_the_several():
    one = Learning(1, 10.0, 50.0, 2.0, 1.0)
    *rows, verdict = bench_world_model.lines([one, Learning(8, 10.0, 50.0, 2.0, 7.9)])
    assert len(rows) == 2 and "10.0 updates/s, 50 environment steps/s" in rows[0]
    assert verdict.startswith("PASS: 8 seeds take 7.9 times")
    assert bench_world_model.lines([one, Learning(8, 9.0, 45.0, 2.0, 8.2)])[-1].startswith("MISS")
