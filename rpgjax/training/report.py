"""What a run says while it goes: a live panel in a terminal, plain flushed lines elsewhere."""

import io
import sys
import time
from collections.abc import Callable
from typing import Any

from rpgjax.training.metrics import Row

_PLAIN_SECONDS = 10.0  # between lines where there is no terminal


class Report:
    """What the training loop tells whoever watches. This one says nothing."""

    def phase(self, name: str) -> None:
        """A phase begins, or goes on: call it as often as you like."""

    def progress(self, row: Row, updates: int) -> None:
        """The last update's metrics, with those of the last evaluation; `updates` is the goal."""

    def say(self, message: str) -> None:
        """One line that stays."""

    def close(self) -> None:
        """The run is over."""


class Plain(Report):
    """Lines for logs and pipes, flushed, at least every ten seconds where something happens."""

    def __init__(
        self, stream: io.TextIOBase | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._clock = clock
        self._phase, self._since, self._last = "", 0.0, -_PLAIN_SECONDS
        self._pace = Pace(clock)
        self._evaluated: Any = None

    def phase(self, name: str) -> None:
        """A phase begins or goes on."""
        now = self._clock()
        if name != self._phase:
            self._phase, self._since = name, now
            if name.startswith("compiling"):  # the others are short, or are heard of below
                self.say(f"{name} ...")
        elif now - self._last >= _PLAIN_SECONDS:
            self.say(f"{name} ... {now - self._since:.0f} s")

    def progress(self, row: Row, updates: int) -> None:
        """The last metrics."""
        self._phase = "training"
        pace = self._pace(row, updates)
        evaluated = row.get("evaluated_at")
        fresh = evaluated != self._evaluated
        self._evaluated = evaluated
        if fresh or row["update"] >= updates or self._clock() - self._last >= _PLAIN_SECONDS:
            self.say(describe(row, updates) + pace)

    def say(self, message: str) -> None:
        """One line that stays."""
        self._last = self._clock()
        print(message, file=self._stream, flush=True)


class Live(Report):
    """A spinner while compiling and a bar while training, for terminals."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("starting", total=None)
        self._phase = "starting"
        self._pace = Pace(time.monotonic)

    def phase(self, name: str) -> None:
        """A phase begins or goes on."""
        if name != self._phase:
            self._phase = name
            self._bar.remove_task(self._task)
            self._task = self._bar.add_task(name, total=None)

    def progress(self, row: Row, updates: int) -> None:
        """The last metrics."""
        if self._phase != "training":
            self.phase("training")
        text = describe(row, updates) + self._pace(row, updates)
        self._bar.update(self._task, description=text, total=updates, completed=row["update"])

    def say(self, message: str) -> None:
        """One line that stays."""
        self._bar.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """The run is over."""
        self._bar.stop()


class Pace:
    """Tells the remaining time from the time that the updates of this process took."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start: tuple[float, int] | None = None

    def __call__(self, row: Row, updates: int) -> str:
        """`  12 min left`, or nothing where it cannot be told."""
        now, update = self._clock(), row["update"]
        if self._start is None or update < self._start[1]:
            self._start = (now, update)
        done = update - self._start[1]
        if not done or update >= updates:
            return ""
        return f"  {duration((now - self._start[0]) / done * (updates - update))} left"


def describe(row: Row, updates: int) -> str:
    """`update 40/340  81,920 steps  return 512.3 (sampled 430.1)  2,140 steps/s`."""
    text = f"update {row['update']}/{updates}  {row['env_steps']:,} steps"
    if (value := row.get("eval/return_mean")) is not None:
        text += f"  return {value:,.4g}"
    if (value := row.get("eval/stochastic_return_mean")) is not None:
        text += f" (sampled {value:,.4g})"
    if value := row.get("eval/nonfinite_fraction"):
        text += f", {value:.0%} of episodes broke"
    if (value := row.get("train/steps_per_second")) is not None:
        text += f"  {value:,.0f} steps/s"
    broken = row.get("train/nonfinite_fraction", 0.0)
    if broken is None or broken > 0:
        text += f"  {1.0 if broken is None else broken:.0%} non-finite"
    return text


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def default_report(show: bool = True) -> Report:
    """Live in a terminal, plain lines elsewhere, silent on request."""
    if not show:
        return Report()
    return Live() if sys.stdout.isatty() else Plain()
