"""Command lines into dataclasses; what is wrong with one is a single line."""

import contextlib
import functools
import inspect
import io
import re
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

from rpgjax.training.settings import RunError

T = TypeVar("T")


def value_of(flag: str, arguments: list[str]) -> str | None:
    """What follows a flag, if it is there: `--env ant` or `--env=ant`; the last one counts."""
    found = None
    for index, argument in enumerate(arguments):
        following = arguments[index + 1 : index + 2]
        if argument == flag and following and not following[0].startswith("--"):
            found = following[0]
        elif argument.startswith(f"{flag}="):
            found = argument.removeprefix(f"{flag}=")
    return found


@contextlib.contextmanager
def as_usage() -> Any:
    """A ValueError about what was asked for becomes one line and exit status 2."""
    try:
        yield
    except ValueError as error:
        raise RunError(" ".join(str(error).split()), 2) from error


def parse(kind: Callable[..., T], verb: str, arguments: list[str], about: str | None = None) -> T:
    """Parses arguments into a dataclass; what is wrong with them is one line."""
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(kind, prog=f"rpgjax {verb}", args=arguments, description=about)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise RunError(f"{one_line(captured.getvalue())} (see rpgjax {verb} --help)", 2) from stop


def parse_function(
    function: Callable[..., None], verb: str, arguments: list[str]
) -> Callable[[], None]:
    """A function bound to its parsed arguments, not called yet."""

    @functools.wraps(function)
    def bind(**values: Any) -> Callable[[], None]:
        return functools.partial(function, **values)

    bind.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return parse(bind, verb, arguments)


def one_line(box: str) -> str:
    """The message in one of tyro's error boxes, with its first suggestion."""
    inner = [line.strip("│ ").strip() for line in box.splitlines() if line.startswith("│")]
    if not inner:  # no box where the encoding has no lines to draw it: a title and a rule instead
        inner = [line.strip() for line in box.splitlines()]
        inner = inner[2:] if len(inner) > 1 and set(inner[1]) == {"-"} else inner
    text = [line for line in inner if line]
    rules = [index for index, line in enumerate(text) if set(line) <= {"─", "-"}]
    message = " ".join(text[: rules[0]] if rules else text) or " ".join(box.split())
    if "Perhaps you meant:" in text:
        following = text[text.index("Perhaps you meant:") + 1 :]
        if following and (option := re.match(r"--[\w-]+", following[0])):
            message += f"; perhaps you meant {option.group()}"
    return message
