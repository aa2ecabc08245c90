"""Waiting: to do again what others are in the way of, until a timeout. Knows no store."""
from __future__ import annotations

from time import monotonic, sleep

from . import driver
from .failures import is_locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, TypeVar

    Result = TypeVar('Result')

SHORTEST, LONGEST = 0.0005, 0.01  # seconds between two tries


def patiently(operation: Callable[[], Result], timeout: float) -> Result:
    """Repeat what others are in the way of, as they are when several open a new file at once."""
    began = monotonic()
    while True:
        try:
            return operation()
        except driver.Error as error:
            if not is_locked(error) or not paused(began, timeout):
                raise


def paused(began: float, timeout: float) -> bool:
    """Sleep until the next try, shorter towards the end of the timeout; return False when it is over."""
    waited = monotonic() - began
    if waited >= timeout:
        return False
    sleep(max(SHORTEST, min(waited, LONGEST * (1 - waited / timeout))))
    return True
