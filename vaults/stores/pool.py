"""Pool: connections that nobody is using are kept for the next call. Knows neither what they are nor what they carry.

The trap: a server may have closed an idle connection, or have been restarted. Whoever writes on it then cannot know
whether that was done. So one is looked at before it is used: it has nothing to say between two answers, and one that
can be read is lost. Then nothing was sent yet, and another one is taken.
"""
from __future__ import annotations

from collections import deque

from .._typing import Generic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Deque, Protocol, TypeVar

    class Pooled(Protocol):
        """A connection of an engine."""

        def is_idle(self) -> bool: ...  # another call may use it: nothing is open in it

        def is_lost(self) -> bool: ...  # the server has closed it, or says what nobody has asked for

        def close(self) -> None: ...

    AnyWire = TypeVar('AnyWire', bound=Pooled)
else:
    AnyWire = object

MOST_IDLE = 8   # connections that are kept


class Pool(Generic[AnyWire]):
    """The connections of a store that nobody is using. Safe in any thread."""

    def __init__(self, connect: Callable[[], AnyWire]) -> None:
        self.connect = connect
        self._idle: Deque[AnyWire] = deque()    # its ends are atomic
        self.is_closed = False

    def take(self) -> AnyWire:
        """Return a connection, which is the caller's: an idle one, else a new one. Raises: as `connect` does."""
        while self._idle:
            try:
                wire = self._idle.pop()
            except IndexError:  # another thread has taken it
                break
            if not wire.is_lost():
                return wire
            wire.close()
        return self.connect()

    def give(self, wire: AnyWire) -> None:
        """Keep it for the next call, unless something is open in it: then it is closed."""
        if wire.is_idle() and len(self._idle) < MOST_IDLE and not self.is_closed:
            self._idle.append(wire)
            if self.is_closed:  # by another thread, meanwhile
                self.clear()
        else:
            wire.close()

    def clear(self) -> None:
        """Close what is idle."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def close(self) -> None:
        """Close what is idle, and keep none from now on."""
        self.is_closed = True
        self.clear()

    def forget(self) -> None:
        """Let go of all, in a forked child: they are the parent's, for whom none may end."""
        self._idle = deque()
