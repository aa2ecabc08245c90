"""FilePlace: where a file is that is read and replaced as a whole, and its lock. Knows nothing of what is in it."""
from __future__ import annotations

import time
from abc import ABC, abstractmethod

from ... import log
from ...errors import VaultBusyError, VaultError
from .holder import this_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Sequence

    from .holder import Holder

LOCK = '.lock'              # what is behind the name of the file in that of its lock
PART = '.partial'           # and in that of a file which is not whole yet
POLL = 0.05, 1.0            # seconds between two looks at a lock: at first, and at most


class FilePlace(ABC):
    """A place for one file. For one thread at a time."""

    files: Sequence[str] = ()                   # local paths, if any
    sources: Optional[Sequence[str]] = None

    def __init__(self, shown_as: str, timeout: float) -> None:
        self.shown, self.timeout = shown_as, timeout
        self.lock = f'{shown_as}{LOCK}'         # how errors call it

    @abstractmethod
    def read(self) -> Optional[bytes]:
        """Return what is in the file; None where there is none. Raises: VaultUnreachableError, VaultError."""

    @abstractmethod
    def replace(self, data: bytes) -> None:
        """Have the file hold this: all of it or, when this raises, what it held before.

        Raises: VaultUnsureError when nobody can tell which of both; VaultUnreachableError, VaultFullError.
        """

    @abstractmethod
    def remove(self) -> None:
        """Delete the file, if it is there."""

    def require_removable(self) -> None:  # noqa: B027  # of most places nobody knows before it is tried
        """Raise where it is known that the file may not be deleted."""

    @abstractmethod
    def try_lock(self, mine: Holder) -> bool:
        """Take the lock, which keeps other writers out; tell whether that went well."""

    @abstractmethod
    def holder(self) -> Optional[Holder]:
        """Return who has the lock, as far as is known."""

    @abstractmethod
    def require_locked(self) -> None:
        """Raise unless the lock is still the one that was taken."""

    @abstractmethod
    def unlock(self) -> None:
        """Give the lock back, if it was taken. Raises: as `read`."""

    @abstractmethod
    def forget_lock(self) -> None:
        """Leave the lock to the parent process, in a forked child."""

    def take_lock(self) -> None:
        """Take the lock, waiting for its holder up to `timeout` seconds. Raises: VaultBusyError."""
        end, pause = time.monotonic() + self.timeout, POLL[0]
        while not self.try_lock(this_process()):
            left = end - time.monotonic()
            if left <= 0:
                raise self._busy()
            time.sleep(min(pause, left))
            pause = min(2 * pause, POLL[1])

    def end_lock(self) -> None:
        """Give the lock back; where that fails, say so and go on, since all that was to be written is."""
        try:
            self.unlock()
        except VaultError as error:
            log.get_logger().warning('the lock %s could not be given back: %s', self.lock, error)

    def _busy(self) -> VaultBusyError:
        holder, mine = self.holder(), this_process()
        if holder is not None and (holder.process, holder.where()) == (mine.process, mine.where()):
            return VaultBusyError(f'this program has the file open for writing already: vault {self.shown}; use the '
                                  f"vault that there is, close it first, or open it with flag='r'")
        who = 'somebody who left no name' if holder is None else str(holder)
        return VaultBusyError(f"the file is open for writing elsewhere, by {who}: vault {self.shown}; wait until it is "
                              f"closed, or open it with flag='r'. If that process is no more, remove {self.lock}")

    def lost_lock(self) -> VaultError:
        return VaultError(f'the lock {self.lock} is not the one that was taken: somebody has removed it, and may write '
                          f'the file: vault {self.shown}; nothing was written. Export what is in memory, and open it '
                          'again')
