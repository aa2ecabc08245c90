"""What the parts of the conformance suite have in common: how a store is made, and how it is looked at."""
from __future__ import annotations

import os
import threading
from contextlib import closing

import pytest

from .._typing import TYPE_CHECKING
from ..stores.base import entries_of

if TYPE_CHECKING:
    import pathlib
    from typing import Any, Callable, Iterator, List

    from ..keys import Stored
    from ..stores.base import Entry, Store

MANY_ENTRIES = 5000  # entries: of any engine more than one page


class Failed(Exception):
    """What the suite makes fail with."""


def listed(store: Store, **options: Any) -> List[Entry]:
    return list(entries_of(store.scan(**options)))


def walked(store: Store, **options: Any) -> List[Stored]:
    return [key for page in store.scan(values=False, **options) for key in page[0]]


def failing(*pairs: Any) -> Iterator[Any]:
    yield from pairs
    raise Failed


def in_thread(function: Callable[[], Any]) -> Any:
    """Return what the function does in a thread of its own, or raise what it raises there."""
    done: List[Any] = []

    def run() -> None:
        try:
            done.append((function(), None))
        except BaseException as error:
            done.append((None, error))
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert done, 'the call in another thread did not return within a minute'
    (result, raised), = done
    if raised is not None:
        raise raised
    return result


def in_threads(function: Callable[[], object]) -> None:
    """Call the function in three threads at once, and wait for them, a minute each at most."""
    threads = [threading.Thread(target=function, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


class StoreSuite:
    """A part of what every engine must do."""

    persistent = True

    def make_store(self, folder: pathlib.Path) -> Store:
        """Return a new store; of one that is kept in files, with them in this folder, which is empty at first.

        An engine that keeps nothing in files may take the folder's path for the name: no other test has it.
        """
        raise NotImplementedError(f'{type(self).__name__} is to say how its store is made, in make_store(self, folder)')

    @pytest.fixture
    def folder(self, tmp_path: pathlib.Path) -> pathlib.Path:
        folder = tmp_path / f'engine-{os.urandom(4).hex()}'  # pytest gives a path again that it has removed
        folder.mkdir()
        return folder

    @pytest.fixture
    def store(self, folder: pathlib.Path) -> Iterator[Store]:
        with closing(self.make_store(folder)) as store:
            yield store
