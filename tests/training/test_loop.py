import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from test_checkpoints import raw
from toy import Line, toy_agent
from worker import settings

import rpgjax.training.loop as loop
from rpgjax.agents import RFOConfig, RPGConfig
from rpgjax.training.checkpoints import CheckpointError, Checkpoints, from_host
from rpgjax.training.loop import fit, next_chunk
from rpgjax.training.metrics import WALL_CLOCK, read_metrics
from rpgjax.training.report import Report
from rpgjax.training.settings import RunError


def comparable(rows):
    return [{k: v for k, v in row.items() if k not in WALL_CLOCK} for row in rows]


def run(out, updates=25, agent=None, seeds=1, every=10, report=None):
    return fit(
        agent or toy_agent(), Line(), settings(updates, every), 10, seeds=seeds, out=out,
        report=report,
    )  # fmt: skip


def assert_same(a, b):
    for left, right in zip(raw(a), raw(b), strict=True):
        np.testing.assert_array_equal(left, right)


def test_rows_count_every_update_and_every_step():
    outcome = run(None)
    rows = outcome.rows[0]
    assert [row["update"] for row in rows] == list(range(1, 26))
    assert [row["env_steps"] for row in rows] == [16 * u for u in range(1, 26)]
    assert [row["update"] for row in rows if "eval/return_mean" in row] == [10, 20, 25]
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    assert outcome.state.update == 25


def test_resumed_run_is_the_uninterrupted_run(tmp_path):
    whole = run(None)
    run(tmp_path, updates=13)
    resumed = run(tmp_path)
    assert_same(whole.state, resumed.state)
    # The first part's last update was evaluated as its last; the rest is the same.
    mine = [r for r in comparable(read_metrics(tmp_path / "metrics.jsonl")) if r["update"] != 13]
    assert mine == [r for r in comparable(whole.rows[0]) if r["update"] != 13]


def test_chunking_does_not_matter(monkeypatch):
    whole = run(None)
    monkeypatch.setattr(loop, "next_chunk", lambda count, seconds: 1)
    assert_same(whole.state, run(None).state)


def test_several_seeds_are_several_runs(tmp_path):
    outcome = run(tmp_path, seeds=3)
    finals = []
    for seed in range(3):
        folder = tmp_path / f"seed-{seed}"
        assert comparable(read_metrics(folder / "metrics.jsonl")) == comparable(outcome.rows[seed])
        assert json.loads((folder / "summary.json").read_text())["updates"] == 25
        single = settings(25, 10)
        own = replace(single, seed=seed)
        host = Checkpoints(folder / "checkpoints", own, write=False).restore(25)
        abstract = jax.eval_shape(toy_agent().init, jax.random.key(0))
        finals.append(from_host([host], abstract))
        assert_same(finals[-1], jax.tree.map(lambda x, seed=seed: x[seed], outcome.state))
    assert not np.array_equal(finals[0].params["mean"], finals[1].params["mean"])
    # A seed that saved once more than the others before the kill costs nothing but time.
    Checkpoints(tmp_path / "seed-1" / "checkpoints", single).forget_after(20)
    again = run(tmp_path, seeds=3)
    assert_same(again.state, outcome.state)


def test_damaged_newest_checkpoint_falls_back(tmp_path):
    whole = run(tmp_path)
    for file in (tmp_path / "checkpoints" / "25").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    said = []

    class Listening(Report):
        def say(self, message):
            said.append(message)

    assert_same(run(tmp_path, report=Listening()).state, whole.state)
    assert "damaged" in said[0]
    assert "resuming after update 20" in said


def test_every_checkpoint_damaged_is_an_error_and_nothing_is_lost(tmp_path):
    run(tmp_path)
    for file in (tmp_path / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged"):
        run(tmp_path)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 25


@pytest.mark.parametrize(("seeds", "lost"), [(1, ""), (2, "seed-1")])
def test_without_the_checkpoints_that_there_were_nothing_is_started_over(tmp_path, seeds, lost):
    run(tmp_path, seeds=seeds)
    shutil.rmtree(tmp_path / lost / "checkpoints")
    with pytest.raises(RunError, match="has 25 updates, and no checkpoint"):
        run(tmp_path, seeds=seeds)
    folder = tmp_path / "seed-0" if seeds > 1 else tmp_path
    assert len(read_metrics(folder / "metrics.jsonl")) == 25
    assert seeds == 1 or any((folder / "checkpoints").iterdir())


def test_a_run_stopped_before_its_first_checkpoint_starts_over(tmp_path):
    whole = run(tmp_path, seeds=2)
    for number in (0, 1):
        folder = tmp_path / f"seed-{number}"
        lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        (folder / "metrics.jsonl").write_text("".join(lines[:15]))
    shutil.rmtree(tmp_path / "seed-1" / "checkpoints")
    said = []

    class Listening(Report):
        def say(self, message):
            said.append(message)

    again = run(tmp_path, seeds=2, report=Listening())
    assert_same(again.state, whole.state)
    assert said[0] == "no checkpoint yet: starting over"


def test_seeds_keep_a_checkpoint_in_common_where_one_fails_to_write(tmp_path, monkeypatch):
    class Fails(Checkpoints):
        saves = 0

        def save(self, *arguments):
            super().save(*arguments)
            self.saves += 1

        def wait(self):
            super().wait()
            if self.folder.parent.name == "seed-1" and self.saves == 2:
                raise CheckpointError("the second was not written")

    monkeypatch.setattr(loop, "Checkpoints", Fails)
    with pytest.raises(CheckpointError, match="the second"):
        run(tmp_path, seeds=2)
    assert Checkpoints(
        tmp_path / "seed-0" / "checkpoints", settings(1, 1), write=False
    ).updates() == [10, 20]


def test_an_agent_need_not_tell_what_was_finite(tmp_path):
    agent = toy_agent()

    def update(state):
        state, metrics = agent.update(state)
        return state, {"train/loss": metrics["train/loss"]}

    assert run(None, agent=agent._replace(update=update)).state.update == 25


def test_foreign_checkpoint_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(CheckpointError, match="another agent"):
        run(tmp_path, agent=toy_agent(5), updates=30)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 25


def test_broken_dynamics_stop_the_run_with_advice(tmp_path):
    with pytest.raises(RunError, match=r"update 5\d.*--horizon"):
        run(tmp_path, updates=200, agent=toy_agent(breaks_at=30))
    assert len(read_metrics(tmp_path / "metrics.jsonl")) < 80
    assert "non-finite" in json.loads((tmp_path / "summary.json").read_text())["status"]


def test_advice_is_of_flags_that_the_run_has():
    of = replace(settings(1, 1), agent=RFOConfig(), backend="spring")
    assert (
        loop.advice(of) == "a smaller --horizon, a lower --actor-learning-rate or another --backend"
    )
    of = replace(settings(1, 1), agent=RPGConfig(), backend=None)
    assert loop.advice(of) == "a smaller --horizon or a lower --learning-rate"


def test_full_disk_while_writing_metrics_is_one_line(tmp_path, monkeypatch):
    def full(path, rows):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    run(tmp_path, updates=10)
    monkeypatch.setattr(loop, "append_metrics", full)
    with pytest.raises(RunError, match="no space left"):
        run(tmp_path)
    monkeypatch.undo()
    assert_same(run(tmp_path).state, run(None).state)


def test_out_of_memory_is_one_line_with_advice(monkeypatch):
    def build(*arguments, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(loop, "build_programs", build)
    with pytest.raises(RunError, match=r"out of memory; try smaller sizes"):
        run(None)
    of = replace(settings(1, 1), agent=RFOConfig())
    assert loop.smaller(of, seeds=3) == "a smaller --num-envs, --horizon or --seeds"
    of = replace(of, agent=RPGConfig())
    assert loop.smaller(of, 1).endswith("--horizon, --batch-size or --replay-size")


def test_where_nobody_reads_on_the_checkpoint_is_there(tmp_path):
    class Pipe(Report):
        def progress(self, row, updates):
            if row["update"] >= 20:
                raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(tmp_path, report=Pipe())
    checkpoints = Checkpoints(tmp_path / "checkpoints", settings(1, 1), write=False)
    assert checkpoints.updates()[-1] == 20


def test_two_processes_do_not_share_a_folder(tmp_path):
    run(tmp_path, updates=1)
    with loop.locked([tmp_path]), pytest.raises(RunError, match="another process"):
        run(tmp_path)


def test_chunks_grow_towards_two_seconds():
    assert next_chunk(1, 10.0) == 1
    assert next_chunk(1, 0.5) == 4
    assert next_chunk(8, 1.0) == 16
    assert next_chunk(32, 0.001) == 32


def worker(*arguments):
    root = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(root.parents[1])}
    command = [sys.executable, str(root / "worker.py"), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_lines(process, path, count):
    deadline = time.monotonic() + 60
    while len(read_metrics(path)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_at_any_moment_the_run_ends_the_same(tmp_path):
    reference = run(None, updates=120, every=2)
    generator = np.random.default_rng()
    for lines in (20, 60):  # saves are all but continuous: most kills hit one
        process = worker(tmp_path, 120, 2, 1, 4)
        wait_for_lines(process, tmp_path / "metrics.jsonl", lines)
        time.sleep(generator.uniform(0, 0.2))
        process.kill()
        process.communicate()
    last = run(tmp_path, updates=120, every=2)
    assert_same(last.state, reference.state)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert comparable(rows) == comparable(reference.rows[0])


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_a_checkpoint(tmp_path, signum):
    process = worker(tmp_path, 100_000, 10_000, 1, 4)
    wait_for_lines(process, tmp_path / "metrics.jsonl", 5)
    process.send_signal(signum)
    said, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signum, errors
    assert f"stopped by {signal.Signals(signum).name} at update" in said
    assert "rpgjax resume" in said
    last = read_metrics(tmp_path / "metrics.jsonl")[-1]["update"]
    checkpoints = Checkpoints(tmp_path / "checkpoints", settings(1, 1), write=False)
    assert checkpoints.updates()[-1] == last


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs file size limits")
def test_file_that_cannot_grow_keeps_the_earlier_checkpoint(tmp_path):
    size = 50_000  # about 1 MB a checkpoint
    run(tmp_path, updates=10, agent=toy_agent(size))
    process = worker(tmp_path, 40, 10, 1, size, 100_000)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.strip().splitlines()[-1].startswith("no space left on device while writing")
    assert_same(
        run(tmp_path, updates=20, agent=toy_agent(size)).state,
        run(None, updates=20, agent=toy_agent(size)).state,
    )
