"""Reparameterization policy gradients in JAX: train policies by back-propagating through a simulator.

import rpgjax
run = rpgjax.train("rfo", env="pendulum", out="runs/pendulum")
print(rpgjax.evaluate(run))
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpgjax.envs.registry import make, register
    from rpgjax.presets import preset
    from rpgjax.training.launch import Run, evaluate, load, resume, train
    from rpgjax.training.settings import TrainSettings

__version__ = "0.1.0"

_HOMES = {
    "Run": "rpgjax.training.launch",
    "TrainSettings": "rpgjax.training.settings",
    "evaluate": "rpgjax.training.launch",
    "load": "rpgjax.training.launch",
    "make": "rpgjax.envs.registry",
    "preset": "rpgjax.presets",
    "register": "rpgjax.envs.registry",
    "resume": "rpgjax.training.launch",
    "train": "rpgjax.training.launch",
}
__all__ = [
    "Run",
    "TrainSettings",
    "evaluate",
    "load",
    "make",
    "preset",
    "register",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """Imports on first use: JAX and Brax take seconds, and a command line must answer at once."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'rpgjax' has no attribute {name!r}")
    from rpgjax.envs.quiet import quiet_brax

    with quiet_brax():
        return getattr(importlib.import_module(_HOMES[name]), name)
