"""`metrics.jsonl`: one object a line, one line an update, and what can be said about them all."""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# What differs between two runs that go through the same parameters.
WALL_CLOCK = ("wall_seconds", "compile_seconds", "train/steps_per_second")


def read_metrics(path: Path) -> list[Row]:
    """The rows of a metrics file; none if there is no file. A torn last line is left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    rows: list[Row] = []
    for line in lines[:-1]:  # what follows the last newline was never finished
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or "update" not in row:
            break
        rows.append(row)
    return rows


def last_update(rows: Sequence[Row]) -> int:
    """The update of the last row; 0 without any."""
    return rows[-1]["update"] if rows else 0


def truncate_metrics(path: Path, update: int) -> list[Row]:
    """Cuts a metrics file back to its rows up to `update`, atomically, and returns them."""
    rows = [row for row in read_metrics(path) if row["update"] <= update]
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        file.writelines(_line(row) for row in rows)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return rows


def append_metrics(path: Path, rows: Iterable[Row]) -> None:
    """Adds rows to a metrics file in one write; they survive the process once this returns."""
    with path.open("a") as file:
        file.write("".join(_line(row) for row in rows))


def _line(row: Row) -> str:
    return json.dumps(jsonable(row), allow_nan=False) + "\n"


def jsonable(value: Any) -> Any:
    """JSON has no NaN: what is not finite, at any depth, becomes null."""
    if isinstance(value, Mapping):
        return {name: jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def nonfinite_streak(rows: Sequence[Row]) -> int:
    """How many of the last updates had no finite gradient, of agents that tell.

    Of no environment, or of the whole: a world model's breaks where no environment does.
    """
    streak = 0
    for row in reversed(rows):
        said = [row.get(f"train/{name}", 0.0) for name in ("nonfinite_fraction", "grad_norm")]
        finite = all(value is not None and math.isfinite(value) for value in said)  # null: not so
        if finite and said[0] < 1:
            break
        streak += 1
    return streak


def column(rows: Sequence[Row], x: str, y: str) -> tuple[list[Any], list[Any]]:
    """Pairs of two metrics, where a row has both."""
    pairs = [(row[x], row[y]) for row in rows if row.get(x) is not None and row.get(y) is not None]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def score(row: Row) -> float | None:
    """What the best is chosen by: an evaluation's return; None without, or where dynamics broke in it.

    An episode that breaks keeps what it was paid so far: where rewards are negative that is the more,
    the sooner it breaks.
    """
    mean = row.get("eval/return_mean")
    sound = mean is not None and math.isfinite(mean) and not row.get("eval/nonfinite_fraction")
    return mean if sound else None


def summarise(rows: Sequence[Row], status: str) -> dict[str, Any]:
    """The numbers of a run that one would cite.

    Args:
        rows: of `metrics.jsonl`.
        status: "completed", "stopped by SIGTERM", ...
    """
    last: Mapping[str, Any] = rows[-1] if rows else {}
    evaluated = [row for row in rows if row.get("eval/return_mean") is not None]
    final: Mapping[str, Any] = evaluated[-1] if evaluated else {}
    sound = [row for row in rows if score(row) is not None]
    best: Mapping[str, Any] = max(sound, key=score, default={})
    _, speeds = column(rows, "update", "train/steps_per_second")
    return {
        "status": status,
        "updates": last.get("update", 0),
        "env_steps": last.get("env_steps", 0),
        "wall_seconds": last.get("wall_seconds", 0.0),
        "compile_seconds": last.get("compile_seconds", 0.0),
        "steps_per_second": sorted(speeds)[len(speeds) // 2] if speeds else None,
        "final_return_mean": final.get("eval/return_mean"),
        "final_return_std": final.get("eval/return_std"),
        "final_stochastic_return_mean": final.get("eval/stochastic_return_mean"),
        "best_return_mean": best.get("eval/return_mean"),
        "best_return_std": best.get("eval/return_std"),
        "best_update": best.get("update"),
        "best_env_steps": best.get("env_steps"),
    }


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets `write` write a file so that a reader finds the old one or the new, never half of one."""
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    temporary.replace(path)


def check_can_write(*files: Path | None) -> None:
    """Raises ValueError where no file can be: to be asked before what it is for is computed.

    None is a file that nobody wants.
    """
    for file in files:
        if file is None:
            continue
        if not file.parent.is_dir():
            raise ValueError(f"no folder {file.parent} to write {file.name} in")
        if file.is_dir():
            raise ValueError(f"{file} is a folder: name a file in it")
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise ValueError(f"{file} cannot be written: permission denied")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole; what is not finite becomes null."""
    text = json.dumps(jsonable(value), indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write_text(text))
