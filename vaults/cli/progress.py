"""Progress: the line that says how far a command is, and Ctrl-C within a long statement. Knows no command."""
from __future__ import annotations

import sys

from ..place import place_of
from .show import is_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Optional

    from ..vault import Vault

INTERVAL = 0.1       # seconds between two pictures of progress


class ProgressLine:
    """A line on stderr while something takes long, on a terminal alone. For the main thread.

    It also lets Ctrl-C end a long statement of an engine, of which Python would hear only when the statement has ended.
    """

    def __init__(self, v: Optional[Vault[Any, Any]], verb: str, unit: str, hidden: bool = False) -> None:
        self._text = f'{verb}: {{:,}} {unit}'.format
        self._whole = f'{verb}: {{:,}} of {{:,}} {unit}'.format
        self._v, self._verb, self._width, self._next = v, verb, 0, 0.0
        self._shown = is_terminal(sys.stderr) and not hidden
        self.interrupted = False

    def __enter__(self) -> ProgressLine:
        import signal
        import threading
        self._before: Any = signal.getsignal(signal.SIGINT)
        if self._before is signal.default_int_handler and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._interrupt)
        from contextlib import nullcontext
        self._block = (nullcontext() if self._v is None else
                       place_of(self._v).store.interruptible(lambda: self.interrupted))
        self._block.__enter__()
        self._draw(f'{self._verb} ...')
        return self

    def _interrupt(self, *_: object) -> NoReturn:
        self.interrupted = True  # SQLite drops an exception that is raised in its callbacks
        raise KeyboardInterrupt

    def __call__(self, done: int, total: Optional[int] = 0) -> None:
        from time import monotonic
        if self._shown and monotonic() >= self._next:
            self._next = monotonic() + INTERVAL
            self._draw(self._whole(done, total) if total else self._text(done))

    def _draw(self, text: str) -> None:
        if self._shown:
            self._width = max(self._width, len(text))
            print(f'\r{text:<{self._width}}', end='\r' if not text else '', file=sys.stderr, flush=True)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        import signal
        self._draw('')
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, self._before)
        self._block.__exit__(kind, error, trace)
        if self.interrupted and kind is not KeyboardInterrupt:
            raise KeyboardInterrupt from error
