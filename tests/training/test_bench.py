"""The bench's arithmetic, its protocol with subprocesses, what our side times. No peer needed."""

import importlib.util
import io
import json
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from rpgjax.training import bench, bench_sides, bench_world_model
from rpgjax.training.bench_world_model import Learning


class PointState(NamedTuple):
    position: jax.Array
    reward: jax.Array


WORK = bench.Workload(num_envs=4, horizon=8, updates_per_block=2)  # 64 steps in a block
VERSIONS = {"ours": {"jax": "1"}, "apg": {"jax": "0"}}


def load_side(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, bench.SIDES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(timed: list[dict[str, float]]) -> bench.BenchResult:
    warm_up = {name: [one + 10.0, one + 1.0] for name, one in timed[0].items()}
    return bench.summarise(WORK, warm_up, timed, VERSIONS, {"cores": 2})


def test_a_round_turns_seconds_into_rates_and_shares():
    one = bench.one_round(WORK, {"update": 2.0, "physics": 1.5, "apg": 4.0, "stock": 4.5})
    assert one.ours_steps_per_second == 32.0
    assert one.apg_steps_per_second == 16.0
    assert one.ratio == 2.0
    assert (one.update_seconds, one.physics_seconds, one.stock_physics_seconds) == (1.0, 0.75, 2.25)
    assert one.physics_share == 0.75
    assert one.stock_physics_share == pytest.approx(4.5 / 5.0)


def test_what_was_not_run_is_none():
    one = bench.one_round(WORK, {"update": 2.0, "physics": 1.5})
    assert one.apg_steps_per_second is one.ratio is None
    assert one.stock_physics_seconds is one.stock_physics_share is None


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    # The machine slows down twofold in round 2: rates halve, ratios within a round don't.
    seconds = [(1.0, 3.0), (2.0, 4.0), (1.0, 2.5)]
    got = result([{"update": u, "physics": u / 2, "apg": a} for u, a in seconds])
    assert [one.ratio for one in got.rounds] == [3.0, 2.0, 2.5]
    assert got.median.ratio == 2.5
    assert got.median.ours_steps_per_second == 64.0
    assert got.median.apg_steps_per_second == pytest.approx(64.0 / 3.0)


def test_compiling_is_what_the_warm_up_took_longer():
    got = result([{"update": 2.0, "physics": 1.0}] * 3)
    assert got.compile_seconds == {"update": 11.0, "physics": 11.0}


def test_json_is_one_flat_object():
    flat = json.loads(json.dumps(bench.to_json(result([{"update": 2.0, "physics": 1.0}] * 2))))
    named = {"env", "backend", "num_envs", "horizon", "rounds", "versions", "machine"}
    named |= {"ours_steps_per_second", "apg_steps_per_second", "ratio", "physics_share"}
    assert named | {"compile_seconds"} <= set(flat)
    assert (flat["env"], flat["horizon"], flat["ratio"]) == ("ant", 8, None)
    assert flat["rounds"][1]["ours_steps_per_second"] == flat["ours_steps_per_second"] == 32.0
    assert flat["versions"]["ours"] == {"jax": "1"}


def test_verdicts_are_honest():
    good = bench.verdicts(result([{"update": 2.0, "physics": 1.5, "apg": 2.0}]))
    assert [line[:4] for line in good] == ["PASS", "PASS"]
    bad = bench.verdicts(result([{"update": 2.0, "physics": 1.49, "apg": 1.99, "stock": 4.0}]))
    assert [line[:4] for line in bad[:2]] == ["MISS", "MISS"]
    assert "11%" in bad[2]  # 0.51 of 4.51


@pytest.mark.parametrize("extra", [{}, {"apg": 4.0}, {"apg": 4.0, "stock": 3.0}])
def test_the_table_has_a_row_for_everything_that_was_run(extra):
    console = Console(record=True, width=100, file=io.StringIO())
    bench.report(result([{"update": 2.0, "physics": 1.5} | extra]), console)
    text = console.export_text()
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert len(rows) == 2 + len(extra)
    assert "1.000" in rows[0] and "32" in rows[0] and "11.0" in rows[0]


def test_sides_take_turns_after_warming_up():
    asked: list[str] = []

    def ask(name: str) -> dict:
        asked.append(name)
        return {"seconds": float(len(asked)), "finite": True}

    warm_up, timed = bench.take_turns({"apg": ask, "update": ask}, 2, lambda line: None)
    assert asked == ["apg", "apg", "update", "update", "apg", "update", "apg", "update"]
    assert warm_up == {"apg": [1.0, 2.0], "update": [3.0, 4.0]}
    assert timed == [{"apg": 5.0, "update": 6.0}, {"apg": 7.0, "update": 8.0}]


def test_broken_numbers_are_not_timed():
    with pytest.raises(ValueError, match="update computed numbers that are not finite"):
        bench.seconds("update", lambda name: {"seconds": 1.0, "finite": False})


def test_a_worker_answers_line_by_line_whatever_it_prints():
    echo = """if True:
        import json, os, sys
        answers = open(int(os.environ["BENCH_ANSWERS"]), "w", buffering=1)
        print("a library says hello", flush=True)
        for line in sys.stdin:
            print(json.dumps({"said": line.strip()}), file=answers)
    """
    with bench_sides.worker("echo", [sys.executable, "-c", echo], dict(os.environ)) as ask:
        assert ask("hello") == {"said": "hello"}
        assert ask("again") == {"said": "again"}


def test_a_dead_worker_is_one_clear_line():
    code = "import sys; sys.exit('no such task')"
    with (
        pytest.raises(ValueError, match=r"^the peer stopped: no such task$"),
        bench_sides.worker("the peer", [sys.executable, "-c", code], dict(os.environ)) as ask,
    ):
        ask("hello")


def test_the_peer_is_installed_once_per_pins(tmp_path, monkeypatch):
    ran: list[list[str]] = []

    def run(command, **kwargs):
        ran.append(command)
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    constraints, venv = tmp_path / "constraints.txt", tmp_path / "venv"
    python = venv / "bin" / "python"
    monkeypatch.setattr(bench_sides.subprocess, "run", run)
    constraints.write_text("jax==0.9.2\n")
    for _ in range(2):
        assert bench_sides.prepare_peer(constraints, venv, lambda line: None) == python
    assert (
        len(ran) == 2 and str(constraints) in ran[1]
    )  # venv, then pip, and nothing the second time
    constraints.write_text("jax==0.9.1\n")
    bench_sides.prepare_peer(constraints, venv, lambda line: None)
    assert len(ran) == 4


def test_a_failing_pip_is_one_clear_line_and_tried_again(tmp_path, monkeypatch):
    said = "collecting\nERROR: No matching distribution found for brax\nnotice: a new pip"
    failed = SimpleNamespace(returncode=1, stdout="", stderr=said)
    monkeypatch.setattr(bench_sides.subprocess, "run", lambda command, **kwargs: failed)
    (tmp_path / "pins.txt").touch()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"No matching distribution.*--skip-peer") as caught:
            bench_sides.prepare_peer(tmp_path / "pins.txt", tmp_path / "venv", lambda line: None)
        assert "\n" not in str(caught.value)


def test_arguments_are_checked_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        bench.main(rounds=0)
    with pytest.raises(ValueError, match="no folder"):
        bench.main(json=tmp_path / "missing" / "bench.json")


def test_timing_waits_for_the_block_and_sees_broken_numbers():
    ours, ticks = load_side("ours_rfo"), iter([1.0, 3.5, 4.0, 5.0])
    clock = lambda: next(ticks)  # noqa: E731
    assert ours.timed(lambda: [jnp.ones(2)], clock) == {"seconds": 2.5, "finite": True}
    assert not ours.timed(lambda: [jnp.array([1.0, jnp.nan])], clock)["finite"]


def test_the_physics_block_is_the_gradient_of_the_rewards():
    class Integrator:
        """x' = x + a, reward -x'^2."""

        action_size = 1

        def reset(self, rng):
            del rng
            return PointState(jnp.ones(1), jnp.zeros(()))

        def step(self, state, action):
            x = state.position + action
            return PointState(x, -jnp.sum(x**2))

    work = bench.Workload(num_envs=3, horizon=2, updates_per_block=2)
    values, gradients = load_side("ours_rfo").physics_block(work, Integrator())()
    assert values.shape == (2,) and gradients.shape == (2, 2, 3, 1)
    assert not np.allclose(gradients[0], gradients[1])  # every repetition is other work
    # The last action moves the last state alone: -2 x_2, and the first one moves both.
    last = -gradients[:, 1] / 2.0
    first = -gradients[:, 0] / 2.0 - last
    np.testing.assert_allclose(values, -np.sum(last**2 + first**2, axis=(1, 2)), rtol=1e-5)


def test_the_file_holds_the_world_model_too(monkeypatch, tmp_path):
    learned = [Learning(1, 4.0, 20.0, 1.0, 1.0), Learning(8, 4.2, 21.0, 2.0, 7.6)]
    found = result([{"update": 2.0, "physics": 1.5}])
    monkeypatch.setattr(bench, "measure", lambda *arguments: found)
    monkeypatch.setattr(bench_world_model, "measure", lambda rounds, say: learned)
    bench.main(json=tmp_path / "bench.json", rounds=1, skip_peer=True)
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["world_model"] == [one._asdict() for one in learned]
    assert written["physics_share"] == found.median.physics_share
