import io

from rpgjax.training.report import Plain, describe, duration


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_plain_lines_come_at_least_every_ten_seconds():
    clock, stream = Clock(), io.StringIO()
    report = Plain(stream, clock)
    for tenth in range(250):  # compiling for 25 s, asked ten times a second
        clock.now = tenth / 10
        report.phase("compiling the update program")
    assert len(stream.getvalue().splitlines()) == 3
    for second in range(25, 66):
        clock.now = float(second)
        report.progress({"update": second, "env_steps": second * 100}, 1000)
    lines = stream.getvalue().splitlines()[3:]
    assert 4 <= len(lines) <= 6
    assert "left" in lines[-1]


def test_fresh_evaluations_are_said_at_once():
    clock, stream = Clock(), io.StringIO()
    report = Plain(stream, clock)
    for update in range(1, 31):
        row = {"update": update, "env_steps": update, "evaluated_at": update // 10 * 10}
        report.progress(row, 100)
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == [
        "1/100", "10/100", "20/100", "30/100",
    ]  # fmt: skip


def test_non_finite_environments_are_never_hidden():
    row = {"update": 1, "env_steps": 1, "train/nonfinite_fraction": 0.25}
    assert "25% non-finite" in describe(row, 2)
    assert "non-finite" not in describe(row | {"train/nonfinite_fraction": 0.0}, 2)
    row = {"update": 1, "env_steps": 1, "eval/return_mean": 2.0, "eval/nonfinite_fraction": 0.5}
    assert "return 2, 50% of episodes broke" in describe(row, 2)


def test_durations():
    assert [duration(s) for s in (5.0, 89.0, 600.0, 9000.0)] == ["5 s", "89 s", "10 min", "2.5 h"]
