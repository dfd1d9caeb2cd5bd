import json

import numpy as np
import pytest

from rpgjax.training.metrics import (
    append_metrics,
    nonfinite_streak,
    read_metrics,
    score,
    summarise,
    truncate_metrics,
    write_json,
)


def test_truncation_drops_later_rows_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, [{"update": u, "x": u / 3} for u in range(1, 6)])
    with path.open("a") as file:
        file.write('{"update": 6, "x"')
    assert [row["update"] for row in read_metrics(path)] == [1, 2, 3, 4, 5]
    kept = truncate_metrics(path, 3)
    assert kept == [{"update": u, "x": u / 3} for u in (1, 2, 3)]
    append_metrics(path, [{"update": 4}])
    assert [json.loads(line)["update"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_a_complete_line_counts_even_if_it_is_the_last(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 1}\n{"update": 2}')  # the second was cut before its newline
    assert [row["update"] for row in read_metrics(path)] == [1]


def test_what_is_not_finite_is_null_in_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, [{"update": 1, "a": float("nan"), "b": float("inf"), "c": 1.5}])
    row = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert row == {"update": 1, "a": None, "b": None, "c": 1.5}
    write_json(path, {"a": {"b": [float("-inf"), 1.5]}, "c": (float("nan"),)})
    written = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert written == {"a": {"b": [None, 1.5]}, "c": [None]}


def test_streak_of_broken_updates():
    def rows(*values):
        return [{"train/nonfinite_fraction": value} for value in values]

    assert nonfinite_streak(rows(1.0, 1.0, 0.5)) == 0
    assert nonfinite_streak(rows(1.0, 0.5, 1.0, 1.0)) == 2
    assert nonfinite_streak(rows(0.0, float("nan"), None)) == 2
    assert nonfinite_streak([]) == 0
    norms = [{"train/nonfinite_fraction": 0.0, "train/grad_norm": x} for x in (None, 1.0, None)]
    assert nonfinite_streak(norms) == 1, "no environment's, but the gradient is not finite"


def test_summary_has_the_final_and_the_best():
    rows = [{"update": u, "env_steps": 10 * u, "wall_seconds": float(u)} for u in range(1, 5)]
    rows[1] |= {"eval/return_mean": 7.0, "eval/return_std": 1.0}
    rows[3] |= {"eval/return_mean": 5.0, "eval/return_std": 2.0}
    summary = summarise(rows, "completed")
    assert (summary["final_return_mean"], summary["best_return_mean"]) == (5.0, 7.0)
    assert (summary["best_update"], summary["updates"], summary["env_steps"]) == (2, 4, 40)
    assert np.isclose(summary["wall_seconds"], 4.0)
    assert summarise([], "stopped")["updates"] == 0


def test_an_evaluation_that_broke_is_not_the_best():
    rows = [{"update": u, "eval/return_mean": r} for u, r in ((1, -3.0), (2, 0.0), (3, -5.0))]
    rows[0]["eval/nonfinite_fraction"] = 0.0
    rows[1]["eval/nonfinite_fraction"] = 0.02
    assert [score(row) for row in rows] == [-3.0, None, -5.0]
    assert score({"update": 4}) is score({"eval/return_mean": float("nan")}) is None
    assert summarise(rows, "completed")["best_update"] == 1
    assert summarise(rows[1:2], "completed")["best_update"] is None
