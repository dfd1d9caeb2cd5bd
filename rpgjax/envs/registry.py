"""Tasks by name: Brax's locomotion tasks, the analytic ones, and the user's own."""

import contextlib
import difflib
import importlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from rpgjax.envs.quiet import quiet_brax, quiet_models

if TYPE_CHECKING:
    # Importing Brax takes seconds, and `rpgjax --help` only wants the names.
    from brax.envs import Env

    from rpgjax.physics.compliance import Compliance
else:
    Env = Compliance = Any

_EXACT = ("spring", "positional", "generalized", "mjx")  # Brax's own; the first is the default
_SMOOTHED = "-smoothed"  # an exact one forward, compliant backward
_BACKENDS = (*_EXACT, "compliant", *(name + _SMOOTHED for name in _EXACT))

_SOFT = {"sag": 0.04, "slip": 0.5, "smoothing": 0.01}
# The ant weighs less than its joints' rotors: on firmer ground its gradient explodes.
_SOFTNESS = {"ant": _SOFT}
# Of slopes alone: firmer, Halfcheetah learns nothing or forgets; softer, Hopper learns to stand.
_LENT = {"sag": 0.02, "slip": 0.25, "smoothing": 0.005}
_LENT_SOFTNESS = _SOFTNESS | {"halfcheetah": _SOFT}


class Task(NamedTuple):
    """How a named task is built."""

    factory: Callable[..., Env]  # takes the backend where `backends` is not empty, else nothing
    backends: tuple[str, ...]  # the physics it runs on, the default first; () for none


def names() -> list[str]:
    """The names that `make` knows, sorted."""
    return sorted(_TASKS)


def backends(name: str) -> tuple[str, ...]:
    """The physics backends of a task, the default first; () where it has none.

    Raises:
        ValueError: if the name is unknown.
    """
    return _find(name).backends


def make(name: str, backend: str | None = None) -> Env:
    """Builds a task. Physics is made cheap to differentiate (`rpgjax.physics.backends`).

    Args:
        name: one of `names()`.
        backend: one of `backends(name)`, or None for the default.

    Raises:
        ValueError: if the name or the backend is unknown.
    """
    task = _find(name)
    if not task.backends:
        if backend is not None:
            raise ValueError(f"task {name!r} has no physics backends, got {backend!r}")
        return task.factory()
    if backend is None:
        backend = task.backends[0]
    if backend not in task.backends:
        known = ", ".join(task.backends)
        raise ValueError(f"task {name!r} has no backend {backend!r}: choose from {known}")
    return task.factory(backend)


def register(name: str, factory: Callable[..., Env], backends: tuple[str, ...] = ()) -> None:
    """Adds a task under a new name.

    Args:
        name: must be free.
        factory: returns a `brax.envs.Env`; called with the backend's name where `backends` are
            given, else with nothing.
        backends: the physics backends to choose from, the default first.

    Raises:
        ValueError: if the name is taken.
    """
    if name in _TASKS:
        raise ValueError(f"task {name!r} is already registered")
    _TASKS[name] = Task(factory, backends)


def _find(name: str) -> Task:
    if name in _TASKS:
        return _TASKS[name]
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names())}"
    raise ValueError(f"unknown task {name!r}: {hint}")


def _brax(name: str) -> Callable[[str], Env]:
    def build(backend: str) -> Env:
        with quiet_brax():
            from rpgjax.envs.hints import with_hints
        with quiet_models(), _mjx_in_jax():
            try:
                return with_hints(_on_physics(name, backend), name)
            except NotImplementedError as error:
                raise ValueError(
                    f"{backend} does not support the task {name!r}: {error}"
                ) from error

    return build


def _on_physics(name: str, backend: str) -> Env:
    """One of Brax's tasks, on Brax's physics, compliant contact, or both."""
    with quiet_brax():
        from brax import envs

        from rpgjax.physics.backends import differentiable
        from rpgjax.physics.compliant import compliant
        from rpgjax.physics.surrogate import body_of, surrogate
    if backend in _EXACT:
        return differentiable(envs.get_environment(name, backend=backend))
    smooth = envs.get_environment(name, backend="generalized")
    if backend == "compliant":
        return compliant(smooth, softness(name))
    exact = envs.get_environment(name, backend=backend.removesuffix(_SMOOTHED))
    smooth = compliant(body_of(exact, smooth), softness(name, backend))
    return surrogate(differentiable(exact), smooth)


def softness(name: str, backend: str = "compliant") -> Compliance:
    """How soft contacts and stops are where the task called `name` runs on `compliant`.

    Behind another backend's steps, which keep bodies off the ground by themselves, they are softer.
    """
    with quiet_brax():
        from rpgjax.physics.compliance import Compliance
    if backend == "compliant":
        return Compliance(**_SOFTNESS.get(name, {}))
    return Compliance(**_LENT_SOFTNESS.get(name, _LENT))


@contextlib.contextmanager
def _mjx_in_jax() -> Iterator[None]:
    """Keeps MJX to its JAX implementation: the one in Warp has no derivative."""
    switch = "MJX_GPU_DEFAULT_WARP"
    before = os.environ.get(switch)
    os.environ[switch] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[switch]
        else:
            os.environ[switch] = before


def _analytic(name: str) -> Callable[[], Env]:
    def build() -> Env:
        return getattr(importlib.import_module("rpgjax.envs.analytic"), name)()

    return build


def _ant_maze(name: str) -> Callable[[str], Env]:
    def build(backend: str) -> Env:
        with quiet_models(), _mjx_in_jax():
            from rpgjax.envs import ant_mazes
            from rpgjax.physics.backends import differentiable

            return differentiable(getattr(ant_mazes, name)(backend))

    return build


def _maze(module: str) -> Callable[[], Env]:
    def build() -> Env:
        return getattr(importlib.import_module(f"rpgjax.envs.{module}"), module)()

    return build


_TASKS: dict[str, Task] = {
    "swimmer": Task(_brax("swimmer"), ("generalized", "compliant", "generalized-smoothed")),
    **{
        name: Task(_brax(name), _BACKENDS)
        for name in (
            "ant",
            "halfcheetah",
            "hopper",
            "humanoid",
            "humanoidstandup",
            "inverted_double_pendulum",
            "inverted_pendulum",
            "pusher",
            "reacher",
            "walker2d",
        )
    },
    **{
        name: Task(_analytic(name), ())
        for name in ("bandit", "double_integrator", "lqr", "pendulum", "two_routes")
    },
    **{name: Task(_maze(name), ()) for name in ("block_push", "gap_maze")},
    **{name: Task(_ant_maze(name), _EXACT) for name in ("ant_maze", "ant_push")},
}
