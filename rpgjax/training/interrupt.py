"""Ctrl-C and SIGTERM as a request that the training loop answers at the end of a chunk."""

import signal
import threading
from types import FrameType, TracebackType

from rpgjax.training.settings import RunError


class Interrupted(RunError):
    """A signal asked for the end while there was nothing to save yet."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}", status=128 + signum)


class Interrupt:
    """While entered, remembers the first SIGINT or SIGTERM; a second one acts as it always does.

    Outside of the main thread, where Python cannot handle signals, it never reports one.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    @property
    def name(self) -> str:
        """The signal's name; empty without one."""
        return signal.Signals(self.signum).name if self.signum is not None else ""

    def raise_if_noted(self) -> None:
        """Raises `Interrupted` where a signal has come."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        self._previous.clear()
