"""Waiting for a socket: signals are heard, and after a while it is asked whether it makes sense to wait on."""
from __future__ import annotations

import select
import threading
from time import monotonic

from ...errors import VaultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    Ready = Callable[[float], Any]  # waits so many milliseconds, and tells whether the socket is ready

SLICE = 100     # milliseconds between two looks whether it is to wait on


class Interrupts(threading.local):
    """What a thread that waits is to ask every so often: whether it is to wait no longer."""

    asked: Optional[Callable[[], bool]] = None


interrupts = Interrupts()


def waiting_for(handle: int, to_write: bool) -> Ready:
    """Return what waits so many milliseconds until the socket can be read, or written as well; false when it cannot."""
    if hasattr(select, 'poll'):
        poll = select.poll()
        poll.register(handle, select.POLLIN | (select.POLLOUT if to_write else 0))
        return poll.poll
    return lambda milliseconds: any(select.select([handle], [handle] if to_write else [], [], milliseconds / 1000))


def wait(ready: Ready, patience: float, alive: Callable[[], None], is_over: Callable[[], bool]) -> None:
    """Wait until it is ready, or a signal handler has done what it was to be ready for.

    Every `patience` seconds `alive` is called, and raises where there is nothing to hope for.
    """
    end = monotonic() + patience
    while not is_over() and not ready(SLICE):
        if interrupts.asked is not None and interrupts.asked():
            raise VaultError('the call was interrupted while it waited for the server')
        if monotonic() > end:
            alive()
            end = monotonic() + patience
