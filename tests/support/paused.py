"""A thread that stops at a fail point of a deletion, like a process that is frozen there."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from actors.fail_points import EVENT

_reached: dict[int, Callable[[str], None]] = {}
_hooked = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == EVENT and (pause := _reached.get(threading.get_ident())) is not None:
        pause(str(arguments[0]))


@dataclass
class Paused:
    """Works in a thread, and stops once at the fail point, until :meth:`go_on`."""

    work: Callable[[], None]
    boundary: str
    error: Exception | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _goes_on: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Return once it has stopped there, or has ended without coming there."""
        global _hooked
        if not _hooked:
            sys.addaudithook(_hook)
            _hooked = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._stopped.wait()

    def go_on(self) -> None:
        """Let it work to its end."""
        self._goes_on.set()
        self._thread.join()

    def _run(self) -> None:
        _reached[threading.get_ident()] = self._pause
        try:
            self.work()
        except Exception as error:
            self.error = error
        finally:
            del _reached[threading.get_ident()]
            self._stopped.set()

    def _pause(self, boundary: str) -> None:
        if boundary == self.boundary and not self._stopped.is_set():
            self._stopped.set()
            self._goes_on.wait()
