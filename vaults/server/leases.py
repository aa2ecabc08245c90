"""Leases: the blocks of clients. Each has the writer's thread to itself until it ends, or was idle for too long.

A client may be gone for good, and nobody else can write until its block has ended: so one that is asked nothing for
five seconds is rolled back, and its client is told so at its next request. That of a client which may only read ends
five seconds after it began, whatever it is asked: else it could keep all writers out.

The trap: an answer may be lost, and is asked for again. So a lease keeps the answer to its last request by that
request's key; and the answer to a commit is kept in the vault, as part of what is committed. It may be asked for while
the commit is still under way, which it waits for: the vault does not know of it before.
"""
from __future__ import annotations

import asyncio
from collections import OrderedDict

from ..errors import VaultBusyError, VaultError, VaultValueError
from ..stores.blocks import MAX_NESTED
from ..stores.http.wire import IDLE_BLOCK, packed_results
from .idempotency import known
from .ops import Stopped, noted_results
from .verbs import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Tuple, Union

    from ..stores.http.wire import OpsRequest
    from .served import Served

    Name = Tuple[str, bytes]    # of a lease: who began it, and how that calls it

BEGIN_BLOCK, COMMIT_BLOCK, ROLL_BACK_BLOCK = ('begin',), ('commit',), ('rollback',)
REMEMBERED = 1000       # leases that have expired, whose clients are told so
LOOK_EVERY = 0.05             # seconds between two looks whether all have ended


class Lease:
    """A block of a client. For one event loop; what it does to the store is done in the writer's thread."""

    def __init__(self, served: Served) -> None:
        self._store = served.store
        self.block = served.workers.block(self.undo)
        self.lock = asyncio.Lock()          # a request waits for the one before
        self.has_begun = self.has_ended = False
        self.committing: Optional[asyncio.Task[bytes]] = None   # goes on where the request for it is cancelled
        self.last_key: Optional[str] = None
        self.last_answer: Any = None        # to the request with that key: bytes, or the error that was raised
        self.timer: Optional[asyncio.TimerHandle] = None
        self.began = 0.0
        self._around: List[object] = []     # who began each transaction that is open, the outermost first

    def left(self, may_write: bool) -> float:
        """Return the seconds until it is rolled back if nothing is asked, or of who may not write whatever is."""
        if may_write or not self.has_begun:
            return IDLE_BLOCK
        return self.began + IDLE_BLOCK - asyncio.get_running_loop().time()

    # --- in the writer's thread ---

    def begin(self, request: OpsRequest) -> Union[List[object], Stopped]:
        """Begin the transaction, and do the rest of the request in it."""
        self.nest()
        return self.go_on(request, 1)

    def go_on(self, request: OpsRequest, first: int = 0) -> Union[List[object], Stopped]:
        """Return the results of a request, or the error that met a verb of it: the block goes on."""
        try:
            return self._results(request, first, len(request.operations))
        except Stopped as stopped:
            return stopped

    def commit(self, request: OpsRequest, identity: Optional[str], digest: bytes) -> bytes:
        """Do what comes before the commit, and that; the answer is kept with it. Raises: then all is rolled back."""
        try:
            results = self._results(request, 0, len(request.operations) - 1)
            if len(self._around) != 1:
                raise VaultValueError(f'{len(self._around) - 1} blocks in this one are open')
            answer = noted_results(self._store, [*results, None], identity, digest)
        except BaseException:
            self.undo()
            raise
        self._store.commit(self._around.pop())
        return answer

    def _results(self, request: OpsRequest, first: int, end: int) -> List[object]:
        results: List[object] = [None] * first
        for at in range(first, end):
            name, *arguments = request.operations[at]
            try:
                step = STEPS_OF_BLOCK.get(name) if type(name) is str else None
                results.append(step(self) if step else checked(name, arguments)(self._store, *arguments))
            except VaultError as error:
                raise Stopped(at, error) from error
        return results

    def nest(self) -> None:
        if len(self._around) > MAX_NESTED:
            raise VaultError(f'blocks are nested more than {MAX_NESTED} deep')
        who = object()
        self._store.begin(who)
        self._around.append(who)

    def release(self) -> None:
        self._store.commit(self._inner())

    def undo_one(self) -> None:
        self._store.rollback(self._inner())

    def _inner(self) -> object:
        if len(self._around) < 2:
            raise VaultValueError('no block in this one is open')
        return self._around.pop()

    def undo(self) -> None:
        if self._around:
            who = self._around[0]
            self._around.clear()
            self._store.rollback(who)


STEPS_OF_BLOCK = {'nest': Lease.nest, 'release': Lease.release, 'undo': Lease.undo_one}


class Leases:
    """The blocks of clients that are open in a vault. For one event loop."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._open: OrderedDict[Name, Lease] = OrderedDict()
        self._expired: OrderedDict[Name, str] = OrderedDict()   # and why
        self.ending = False     # none begins any more

    def __len__(self) -> int:
        return len(self._open)

    async def run(self, request: OpsRequest, caller: str, digest: bytes, may_write: bool) -> bytes:
        """Return the answer to a request in a block, which its first verb may begin, and its last one end.

        Raises: Stopped, VaultError; then a block goes on unless it was to end.
        """
        name = caller, request.block or b''
        lease = self._open.get(name)
        identity = None if request.key is None else f'{caller}:{request.key}'
        if lease is None:
            if request.operations[0] != BEGIN_BLOCK:
                return await self._known(name, identity, digest)
            lease = self._begun(name)
        async with lease.lock:
            if lease.last_key is not None and lease.last_key == request.key:
                return _answer_again(lease.last_answer)
            if lease.has_ended and not lease.has_begun:  # that was refused to who asked before, as while others write
                return await self.run(request, caller, digest, may_write)
            if lease.has_ended:
                if lease.committing is not None:
                    await asyncio.wait([lease.committing])
                return await self._known(name, identity, digest)
            if lease.timer is not None:
                lease.timer.cancel()
            if lease.left(may_write) <= 0:
                self._undo(name, lease, may_write)
                raise self._gone(name)
            try:
                return await self._ask(name, lease, request, identity, digest)
            finally:
                if not lease.has_ended:
                    lease.timer = asyncio.get_running_loop().call_later(lease.left(may_write), self._expire, name,
                                                                        lease, may_write)

    async def _known(self, name: Name, identity: Optional[str], digest: bytes) -> bytes:
        """Return what a block's last request was answered, perhaps by a server that has ended since."""
        if identity is not None:
            answer = await self._served.read(known, self._served.store, identity, digest)
            if answer is not None:
                return answer
        raise self._gone(name)

    def _begun(self, name: Name) -> Lease:
        if self.ending:
            raise VaultBusyError('the server is about to end, and begins no block: repeat it in a moment')
        lease = self._open[name] = Lease(self._served)
        return lease

    def _gone(self, name: Name) -> VaultError:
        if name in self._expired:
            return VaultError(self._expired[name])
        return VaultError('the block is not open any more, since the server has ended meanwhile or rolled it back: '
                          'nothing of it was kept; repeat it')

    async def _ask(self, name: Name, lease: Lease, request: OpsRequest, identity: Optional[str],
                   digest: bytes) -> bytes:
        last = request.operations[-1]
        if lease.has_begun and last == COMMIT_BLOCK:
            return await self._commit(name, lease, request, identity, digest)
        try:
            if not lease.has_begun:
                outcome = await lease.block.begin(lambda: lease.begin(request))
                lease.has_begun, lease.began = True, asyncio.get_running_loop().time()
            elif last == ROLL_BACK_BLOCK:
                self._leave(name, lease)
                await lease.block.end(lease.undo)
                return packed_results([None] * len(request.operations))
            else:
                outcome = await lease.block.run(lease.go_on, request)
        except BaseException:
            self._leave(name, lease)
            lease.block.drop()
            raise
        lease.last_key = request.key
        lease.last_answer = outcome if isinstance(outcome, Stopped) else packed_results(outcome)
        return _answer_again(lease.last_answer)

    async def _commit(self, name: Name, lease: Lease, request: OpsRequest, identity: Optional[str],
                      digest: bytes) -> bytes:
        """Return the answer to a commit. Until that is done, whoever asks for it again finds the block."""
        lease.has_ended = True
        lease.committing = asyncio.ensure_future(lease.block.end(lambda: lease.commit(request, identity, digest)))
        lease.committing.add_done_callback(lambda _: self._leave(name, lease))
        return await asyncio.shield(lease.committing)

    def _leave(self, name: Name, lease: Lease) -> None:
        lease.has_ended = True
        if self._open.get(name) is lease:
            del self._open[name]

    def _expire(self, name: Name, lease: Lease, may_write: bool) -> None:
        """Roll back a block whose time is over."""
        if not lease.lock.locked() and not lease.has_ended:
            self._undo(name, lease, may_write)

    def _undo(self, name: Name, lease: Lease, may_write: bool) -> None:
        self._leave(name, lease)
        self._expired[name] = (
            f'nothing was asked in the block for {IDLE_BLOCK:g} seconds: it was rolled back, and nothing of it was '
            'kept; repeat it, and do what takes long before it or behind it' if may_write else
            f'a block of a token that may only read has {IDLE_BLOCK:g} seconds, since others wait to write: it was '
            'rolled back; repeat it with less in it, or read outside of a block')
        while len(self._expired) > REMEMBERED:
            self._expired.popitem(last=False)
        lease.block.drop()

    async def end_all(self, grace: float) -> None:
        """Begin no block any more, wait until those that are open have ended, and roll back what is left."""
        self.ending = True
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        while self._open and loop.time() < end:
            await asyncio.sleep(LOOK_EVERY)
        for name, lease in list(self._open.items()):
            if lease.timer is not None:
                lease.timer.cancel()
            self._leave(name, lease)
            lease.block.drop()


def _answer_again(answer: Any) -> bytes:
    if isinstance(answer, Stopped):
        raise answer
    return answer  # type: ignore[no-any-return]  # packed
