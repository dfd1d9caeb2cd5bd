import json

import numpy as np
import pytest

from rpgjax.training import figures
from rpgjax.training.figures import aligned, comparison, interval, learning_curve
from rpgjax.training.metrics import append_metrics
from rpgjax.training.settings import RunError

PNG = b"\x89PNG"


def rows(offset=0.0, updates=6):
    found = [{"update": u, "env_steps": 10 * u, "train/grad_norm": 1.0} for u in range(1, updates)]
    for row in found[1::2]:
        row |= {"eval/return_mean": row["update"] + offset, "eval/return_std": 1.0}
    return found


def folder(path, seed, offset, **agent):
    path.mkdir(parents=True)
    append_metrics(path / "metrics.jsonl", rows(offset))
    settings = {"algorithm": "rfo", "env": "ant", "backend": "spring", "seed": seed}
    settings |= {"agent": agent, "updates": 6 + seed}
    (path / "config.json").write_text(json.dumps({"settings": settings}))
    return path


def test_learning_curve_is_drawn_with_and_without_evaluations(tmp_path):
    for name, content in (("full", rows()), ("young", rows()[:1]), ("empty", [])):
        learning_curve(content, tmp_path / f"{name}.png", "title")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)


def test_seeds_of_one_setting_are_one_curve(tmp_path):
    runs = [folder(tmp_path / f"rfo-ant-spring-seed{s}", s, float(s)) for s in range(3)]
    assert comparison(runs, tmp_path / "a.png") == 1
    other = folder(tmp_path / "longer-horizon", 0, 5.0)
    assert comparison([*runs, other], tmp_path / "b.png") == 2
    assert (tmp_path / "b.png").read_bytes().startswith(PNG)


def test_a_seed_that_has_not_been_evaluated_does_not_hide_the_others(tmp_path, monkeypatch):
    runs = [folder(tmp_path / f"rfo-ant-spring-seed{s}", s, float(s)) for s in range(3)]
    (runs[1] / "metrics.jsonl").write_text('{"update": 1, "env_steps": 10}\n')
    drawn = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: drawn.append(figure))
    assert comparison(runs, tmp_path / "a.png") == 1
    (line,) = drawn[0].axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [3.0, 5.0])  # the mean of seeds 0 and 2
    assert "2 of 3 seeds" in line.get_label()
    with pytest.raises(RunError, match="no run has been evaluated"):
        comparison(runs[1:2], tmp_path / "a.png")


@pytest.mark.parametrize("name", ["group", "rfo-ant-spring-seed4", "rfo-ant-spring-seed4-2"])
def test_folder_of_seeds_counts_as_its_seeds(name, tmp_path):
    for seed in (4, 5):
        folder(tmp_path / name / f"seed-{seed}", seed, 0.0)
    assert comparison([tmp_path / name], tmp_path / "c.png") == 1


def test_what_differs_in_more_than_its_seed_is_no_seed_of_it(tmp_path):
    one = folder(tmp_path / "rfo-ant-spring-seed0", 0, 0.0, horizon=16)
    other = folder(tmp_path / "rfo-ant-spring-seed1", 1, 0.0, horizon=32)
    again = folder(tmp_path / "rfo-ant-spring-seed0-2", 0, 0.0, horizon=16)
    assert comparison([one, other], tmp_path / "c.png") == 2
    assert comparison([one, again], tmp_path / "c.png") == 2, "the same seed twice is one seed"


def test_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(RunError, match="no metrics"):
        comparison([tmp_path], tmp_path / "c.png")


def test_curves_meet_at_common_steps():
    steps, returns = aligned([rows(0.0), rows(2.0, updates=4)])
    np.testing.assert_array_equal(steps, [20])
    np.testing.assert_array_equal(returns, [[2.0], [4.0]])


def test_interval_is_students():
    # For two values a and b the half width is 12.706 |a - b| / 2.
    np.testing.assert_allclose(interval(np.array([[0.0], [2.0]])), 12.706, rtol=1e-4)
    np.testing.assert_array_equal(interval(np.array([[3.0]])), 0.0)
