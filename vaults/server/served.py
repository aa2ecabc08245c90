"""Served: the vaults of a root, opened by name when they are first asked for, and closed when nobody asks any more.

Each has threads of its own. While it is opened, closed, made or dropped, whoever asks for it waits. For one event loop.
"""
from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Dict, List, Optional

from .. import log
from ..aio.workers import Workers
from ..codecs.serializers import AS_STORED
from ..errors import VaultError, VaultNotFoundError, VaultValueError
from ..opening import exactly
from ..place import place_of
from ..stores import names_under, scheme_of, shown_url, target_under
from ..stores.base import Options
from ..vault import Vault
from .leases import Leases
from .names import is_served_name, require_served_name

IDLE = 60.0     # seconds after which a vault that nobody uses is closed
MOST_OPEN = 64  # vaults; then that is closed which was not used for longest, as each has three threads, and files open


class Served:
    """A vault that is open, and its threads."""

    def __init__(self, name: str, vault: Vault[Any, Any], workers: Workers) -> None:
        self.name, self.vault, self.workers = name, vault, workers
        self.place = place_of(vault)
        self.store = self.place.store
        # Where all threads take turns, what reads waits in the queue of what writes, and not in a thread of its own.
        self.read = workers.write if self.store.is_serial else workers.read
        self.leases = Leases(self)

    async def close(self, grace: float) -> None:
        """End its blocks, those that do not end by themselves in time by rolling them back, and close it."""
        await self.leases.end_all(grace)
        try:
            await self.workers.long(self.vault.close)
        finally:
            await self.workers.close()


class _Slot:
    """What is known of a name that is in use: the vault, if it is open; who uses it; a lock for what changes that."""

    def __init__(self) -> None:
        self.lock, self.users, self.last = asyncio.Lock(), 0, 0.0
        self.served: Optional[Served] = None


class ServedRoot:
    """The vaults under a folder or URL."""

    def __init__(self, root: str, timeout: float) -> None:
        """Raises: VaultValueError for a server of vaults: whoever asked here would have the token of this process."""
        if scheme_of(root) in ('http', 'https'):
            raise VaultValueError(f'the vaults of {shown_url(root)} are served already, by the server there: say the '
                                  'folder whose vaults are meant, with --root FOLDER, or as the root of app()')
        self.root = root if scheme_of(root) else os.path.abspath(root)
        self.timeout = timeout
        self.stopping = False       # a request that begins now is refused
        self._slots: Dict[str, _Slot] = {}
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._timer: Optional[asyncio.TimerHandle] = None

    # --- names ---

    def names(self) -> List[str]:
        """Return the names of the vaults that can be served, sorted."""
        if scheme_of(self.root):
            return [name for name in names_under(self.root, Options('r')) if is_served_name(name)]
        folder = os.path.join(self.root, 'vaults')
        found = os.listdir(folder) if os.path.isdir(folder) else []
        return sorted(name[:-3] for name in found if name.endswith('.db') and is_served_name(name[:-3])
                      and os.path.isfile(os.path.join(folder, name)) and not os.path.islink(os.path.join(folder, name)))

    def target(self, name: str) -> Any:
        """Return what opens the vault of a name. Raises: VaultNotFoundError where a link leads elsewhere."""
        if scheme_of(self.root):
            return target_under(self.root, name)
        path = os.path.join(self.root, 'vaults', f'{name}.db')
        if os.path.islink(path):
            raise VaultNotFoundError(f'there is no vault {name!r}: what has its name is a link, which is not followed')
        return exactly(path)

    def hidden(self, name: str) -> Dict[str, str]:
        """Return what is told in place of paths, about the vault of a name, '' for none."""
        if scheme_of(self.root):
            path = shown_url(target_under(self.root, name)) if name else ''
        else:
            path = os.path.join(self.root, 'vaults', f'{name}.db')
        return {**({path: name} if name else {}), shown_url(self.root): 'the root'}

    # --- use ---

    @asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[Served]:
        """Have a vault open. Raises: VaultNotFoundError, and what opening raises."""
        slot = self._enter(name)
        try:
            async with slot.lock:
                if slot.served is None:
                    slot.served = await self._opened(name, 'w')
                served = slot.served
            yield served
        finally:
            self._leave(name, slot)

    async def make(self, name: str) -> bool:
        """Make a vault; tell whether there was none."""
        async with self._turn(name) as slot:
            if slot.served is not None:
                return False
            try:
                slot.served = await self._opened(name, 'w')
            except VaultNotFoundError:
                slot.served = await self._opened(name, 'c')
                return True
            return False

    async def drop(self, name: str) -> None:
        """Delete a vault; blocks that are open in it are rolled back. Raises: VaultNotFoundError."""
        async with self._turn(name) as slot:
            served = slot.served or await self._opened(name, 'w')
            slot.served = None
            await served.leases.end_all(0.0)
            try:
                await served.workers.long(served.vault.delete_vault)
            finally:
                await served.close(0.0)  # what could not be deleted is not left open

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[_Slot]:
        """Have a name to oneself."""
        slot = self._enter(name)
        try:
            async with slot.lock:
                yield slot
        finally:
            self._leave(name, slot)

    async def _opened(self, name: str, flag: str) -> Served:
        await self._make_room()
        target = await asyncio.get_running_loop().run_in_executor(None, self.target, name)
        workers = Workers(name, self.timeout)
        try:
            vault: Vault[Any, Any] = await workers.long(lambda: self._open(target, flag))
            return Served(name, vault, workers)
        except BaseException:
            await workers.close()
            raise

    def _open(self, target: Any, flag: Any) -> Vault[Any, Any]:
        if flag == 'c' and not scheme_of(self.root):
            os.makedirs(os.path.join(self.root, 'vaults'), exist_ok=True)
        return Vault(target, flag=flag, timeout=self.timeout, allow_pickle=False, serializer=AS_STORED)

    # --- the end ---

    def _enter(self, name: str) -> _Slot:
        """Return what is known of a name, in the event loop that runs. Raises: VaultValueError for none."""
        require_served_name(name)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin_anew(loop)
        slot = self._slots.setdefault(name, _Slot())
        slot.users += 1
        return slot

    def _leave(self, name: str, slot: _Slot) -> None:
        slot.users -= 1
        slot.last = asyncio.get_running_loop().time()
        if not slot.users and slot.served is None and self._slots.get(name) is slot:
            del self._slots[name]  # or whoever asks for names that there are not fills the memory

    def _begin_anew(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leave the vaults of an event loop that has ended, as each request of a client for tests has its own."""
        old, self._slots, self._loop = self._slots, {}, loop
        for slot in old.values():
            if slot.served is not None:
                slot.served.vault.close()
        self._timer = loop.call_later(IDLE, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to close what nobody has used for long, every so often."""
        for name, slot in list(self._slots.items()):
            if self._is_idle(slot, loop.time() - IDLE):
                loop.create_task(self._close_idle(name))
        self._timer = loop.call_later(IDLE, self._look, loop)

    def _is_idle(self, slot: _Slot, since: float) -> bool:
        return (slot.served is not None and not slot.users and slot.last < since
                and not len(slot.served.leases))

    async def _close_idle(self, name: str) -> None:
        async with self._turn(name) as slot:
            served = slot.served
            if served is not None and slot.users == 1 and not len(served.leases):
                slot.served = None
                await self._end(served, 0.0)

    async def _make_room(self) -> None:
        """Close what was not used for longest, as long as too many are open and nobody uses it."""
        while len(self.open_ones()) >= MOST_OPEN:
            idle = [(slot.last, name) for name, slot in self._slots.items() if self._is_idle(slot, float('inf'))]
            if not idle:
                return
            await self._close_idle(min(idle)[1])

    async def _end(self, served: Served, grace: float) -> None:
        try:
            await served.close(grace)
        except VaultError as error:
            log.get_logger().warning('the vault %r was not closed well: %s', served.name, error)

    def open_ones(self) -> List[Served]:
        """Return the vaults that are open."""
        return [slot.served for slot in self._slots.values() if slot.served is not None]

    async def end_blocks(self, grace: float) -> None:
        """Refuse new requests, and wait until the blocks that are open have ended, or roll them back."""
        self.stopping = True
        await asyncio.gather(*(served.leases.end_all(grace) for served in self.open_ones()))

    async def close(self) -> None:
        """Close all vaults."""
        if self._timer is not None:
            self._timer.cancel()
        slots, self._slots, self._loop = self._slots, {}, None
        await asyncio.gather(*(self._end(slot.served, 0.0) for slot in slots.values() if slot.served is not None))
