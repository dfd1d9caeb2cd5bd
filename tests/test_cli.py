import json
import subprocess
import sys
import time

import pytest

from rpgjax.arguments import one_line
from rpgjax.cli import main
from rpgjax.training.runs import locked


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("trian", "unknown verb 'trian'"),
        ("train", "needs an algorithm"),
        ("train nothing --env lqr", "unknown algorithm 'nothing'"),
        ("train rfo --env lqrr", "did you mean lqr"),
        ("train rfo --env lqr --backend spring", "backend"),
        ("train rfo --env lqr --flow_stepss 3", "perhaps you meant --flow-steps"),
        ("train rfo --env lqr --updates many", "--updates"),
        ("train rfo --env lqr --eval-every 0", "eval_every is 0"),
        ("train rfo --env lqr --seeds 0", "--seeds is 0"),
        ("train rfo --env lqr --epochs 3", "--epochs"),
        ("train rfo --env --updates 3", "--env"),
        ("train rfo --env lqr --num-envs 0", "num_envs must be at least 1, not 0"),
        ("train rfo --env lqr --discount 2", "discount (2) must be between 0 and 1"),
        ("train rpg --env lqr --hidden 0", "hidden must be at least 1"),
        ("train rpg --env lqr --hidden", "hidden needs at least one layer"),
        ("train rpg --env lqr --latent Discrete", "--latent"),
        ("train mbsac --env lqr --latent-size 4", "--latent-size"),
        ("resume /nowhere", "no run folder"),
        ("resume", "rpgjax resume --help"),
        ("eval /nowhere", "no run folder"),
        ("eval /nowhere --episodes 0", "--episodes is 0"),
        ("render /nowhere", "no run folder"),
        ("render /nowhere --out x.png", "--out is the page: x.html"),
        ("render . --out /nowhere/x.html", "no folder /nowhere to write x.html in"),
        ("eval . --json /nowhere/x.json", "no folder /nowhere to write x.json in"),
        ("eval . --json /", "/ is a folder"),
        ("plot . --out /nowhere/x.png", "no folder /nowhere to write x.png in"),
        ("plot", "at least one run folder"),
        ("plot /nowhere", "no metrics"),
        ("list everything", "everything"),
        ("bench --rounds x", "--rounds"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert errors.startswith("rpgjax: error: ")
    assert errors.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "verb", ["train", "train rfo --env lqr", "resume", "eval", "render", "plot"]
)
def test_every_verb_has_help(verb, capsys):
    assert main([*verb.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert "rpgjax" in out
    if "rfo" in verb:
        assert "--flow-steps" in out
        assert "--checkpoint-every" in out


def test_the_first_line_comes_before_jax():
    began = time.monotonic()
    command = [sys.executable, "-m", "rpgjax", "train", "rfo", "--env", "nothing"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "loading" in process.stdout.readline()
    assert time.monotonic() - began < 5
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.count("\n") == 1, errors


def test_a_run_from_train_to_plot(tmp_path, capsys):
    out = str(tmp_path / "run")
    small = "--updates 4 --eval_every 2 --checkpoint-every 2 --eval-episodes 4 --num_envs 4"
    small += " --horizon 2 --actor-hidden 4 --episode-length 5 --bank-size 4"
    assert main(["train", "apg", "--env", "lqr", *small.split(), "--out", out]) == 0
    names = {path.name for path in (tmp_path / "run").iterdir()}
    written = {"config.json", "metrics.jsonl", "checkpoints", "learning_curve.png"}
    assert written | {"replay.html", "summary.json"} <= names
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "completed"

    assert main(["train", "apg", "--env", "lqr", "--out", out]) == 2
    assert "holds a run already" in capsys.readouterr().err
    before = (tmp_path / "run" / "config.json").read_bytes()
    with locked([tmp_path / "run"]):
        assert main(["resume", out, "--updates", "6"]) == 1
    assert "another process" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_bytes() == before, "refused: nothing changes"
    assert main(["resume", out, "--updates", "6", "--no-replay"]) == 0
    was, now = json.loads(before), json.loads((tmp_path / "run" / "config.json").read_text())
    assert now == was | {"settings": was["settings"] | {"updates": 6}}
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [1, 2, 3, 4, 5, 6]

    assert main(["resume", out, "--updates", "5"]) == 2
    assert "has 6 updates already" in capsys.readouterr().err

    numbers = tmp_path / "numbers.json"
    assert main(["eval", out, "--episodes", "3", "--json", str(numbers), "--which", "last"]) == 0
    found = json.loads(numbers.read_text())
    assert found["update"] == 6
    assert found["eval/return_mean"] < 0
    assert main(["eval", out, "--backend", "spring"]) == 2
    assert "no physics backends" in capsys.readouterr().err
    assert main(["plot", out, "--out", str(tmp_path / "figure.png")]) == 0
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert main(["plot", out, "--out", str(tmp_path / "figure.foo")]) == 2
    assert "'foo' is not supported" in capsys.readouterr().err

    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["settings"]["agent"]["discount"] = 0.5
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert main(["resume", out]) == 1
    assert "belongs to another configuration" in capsys.readouterr().err


def test_a_policy_with_a_latent_gets_a_picture_of_it(tmp_path, capsys):
    run = tmp_path / "run"
    small = "--updates 2 --eval-every 2 --checkpoint-every 2 --eval-episodes 4 --num_envs 4"
    small += " --horizon 2 --actor-hidden 4 --critic-hidden 4 --encoder-hidden 4 --latent-size 2"
    small += " --episode-length 5 --bank-size 4 --no-replay"
    command = ["train", "rpg_physics", "--env", "two_routes", *small.split(), "--out", str(run)]
    assert main(command) == 0
    picture = run / "latents.png"
    assert picture.stat().st_size > 1000
    picture.unlink()
    assert main(["plot", str(run)]) == 0
    assert picture.stat().st_size > 1000
    assert str(picture) in capsys.readouterr().out
    assert main(["plot", str(run), "--out", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a-latents.png").stat().st_size > 1000, "another run's are not overwritten"

    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"custom": True}))
    assert main(["plot", str(run)]) == 0, "the curve is there; nobody can make the task"
    assert "no latents.png" in capsys.readouterr().out


def test_boxes_become_one_line():
    box = "╭─ Bad ─╮\n│ first half,  │\n│ second half. │\n│ ──────── │\n│ Help │\n╰──╯"
    assert one_line(box) == "first half, second half."
