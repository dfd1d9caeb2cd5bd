"""The one place that silences what Brax says about itself.

Importing Brax prints that MuJoCo's optional Warp backend is missing and warns that JAXopt is
unmaintained; loading a model warns that Brax physics is in maintenance and that a model file uses a
deprecated attribute (MuJoCo writes this one to a `MUJOCO_LOG.TXT` in the working folder as well).
All of it is known here and none of it is the user's to act on. Only these messages are dropped:
every other line and warning passes.
"""

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator

_HARMLESS_PRINTS = ("Failed to import warp", "Failed to import mujoco_warp")
_HARMLESS_WARNINGS = (r"\s*JAXopt is no longer maintained", r"\s*Brax System, piplines and env")
_HARMLESS_IN_MODELS = "compiler attribute 'settotalmass' is deprecated"


@contextlib.contextmanager
def quiet_brax() -> Iterator[None]:
    """Silences what Brax prints when imported, and Python warnings of import and load."""
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            for message in _HARMLESS_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for line in printed.getvalue().splitlines(keepends=True):
            if not line.startswith(_HARMLESS_PRINTS):
                sys.stdout.write(line)


@contextlib.contextmanager
def quiet_models() -> Iterator[None]:
    """Silences what MuJoCo says of Brax's own model files while one is loaded."""
    with quiet_brax():
        import mujoco

    previous = mujoco.get_mju_user_warning()

    def warn(message: str) -> None:
        if _HARMLESS_IN_MODELS in message:
            return
        if previous is not None:
            previous(message)
        else:
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    mujoco.set_mju_user_warning(warn)
    try:
        with quiet_brax():
            yield
    finally:
        mujoco.set_mju_user_warning(previous)
