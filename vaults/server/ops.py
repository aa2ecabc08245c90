"""Ops: what a vault on another machine asks for, the contract of stores/base.py. Builds no object of a value."""
from __future__ import annotations

from collections import namedtuple

from ..errors import VaultError, VaultReadOnlyError, VaultValueError
from ..stores.http.wire import digest_of, packed_error, packed_results, status_of, unpacked_request
from .answers import worded
from .idempotency import ReusedKeyError, in_block, known, note
from .verbs import MAY_READ, VERBS_ALONE, VERBS_THAT_READ, checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, NamedTuple, Optional, Sequence

    from ..stores.base import Store
    from ..stores.http.wire import Operation, OpsRequest
    from .served import Served

    class Answer(NamedTuple):
        status: int
        body: bytes
else:
    Answer = namedtuple('Answer', 'status body')

QUICKLY_READ = 1 << 16     # bytes of a request that is read in the event loop
PUT_NEW, DESCRIBE, MAY_WRITE = 'put_new', [('describe',)], [('may_write',)]


class Stopped(Exception):
    """A verb has raised an error: its place, and the error."""

    def __init__(self, at: int, error: VaultError) -> None:
        super().__init__(at, error)
        self.at, self.error = at, error


async def run_ops(served: Served, body: bytes, may_write: bool, caller: str) -> Answer:
    """Return the answer to a request of another vault. `caller`: who asks, whose blocks and keys are no other's."""
    try:
        request = (unpacked_request(body) if len(body) < QUICKLY_READ else
                   await served.workers.long(unpacked_request, body))
        if request.operations == MAY_WRITE:
            return Answer(200, packed_results([may_write]))  # also while a block of this client has the vault
        if not may_write:
            require_reading(request)
        if request.block is not None:
            return Answer(200, await served.leases.run(request, caller, digest_of(body), may_write))
        if request.operations == DESCRIBE:
            facts: Any = (await served.read(results_of, served.store, DESCRIBE))[0]
            return Answer(200, packed_results([{**facts, 'writable': may_write}]))
        return Answer(200, await _outside_of_blocks(served, request, caller, digest_of(body)))
    except Stopped as stopped:
        return answer_of(stopped.error, served, stopped.at)
    except VaultError as error:
        return answer_of(error, served)


def answer_of(error: VaultError, served: Served, at: int = 0) -> Answer:
    """Return the answer that an error is: the paths of this machine are not told."""
    told = type(error)(worded(error, {served.place.path: served.name}))
    return Answer(422 if isinstance(error, ReusedKeyError) else status_of(error), packed_error(told, at))


async def _outside_of_blocks(served: Served, request: OpsRequest, caller: str, digest: bytes) -> bytes:
    """Do what is no part of a block: what reads as it is, what writes in a transaction, the whole by itself."""
    store, names = served.store, {str(name) for name, *_ in request.operations}
    if names & VERBS_ALONE.keys():
        if len(request.operations) > 1:
            raise VaultValueError(f'{", ".join(names & VERBS_ALONE.keys())} is asked for alone')
        return await served.workers.long(done, store, request.operations)
    if names <= VERBS_THAT_READ.keys():
        return await served.read(done, store, request.operations)
    identity = None if request.key is None else f'{caller}:{request.key}'
    if request.operations[0][0] == PUT_NEW and len(request.operations) == 1:
        answer = await served.read(there_already, store, request.operations[0], identity, digest)
        if answer is not None:
            return answer
    return await served.workers.write(in_block, store, lambda: noted(store, request.operations, identity, digest))


def there_already(store: Store, operation: Operation, identity: Optional[str], digest: bytes) -> Optional[bytes]:
    """Return the answer to `put_new` where there is a value: nothing is written, and no writer is waited for.

    First the value, then whether it was put by this very request, whose answer was lost: it may be put in between.
    """
    name, *arguments = operation
    checked(name, arguments)
    there = store.get(arguments[0])
    if there is None:
        return None
    before = known(store, identity, digest) if identity is not None else None
    return packed_results([there]) if before is None else before


def noted(store: Store, operations: Sequence[Operation], identity: Optional[str], digest: bytes) -> bytes:
    """Do what is asked in the transaction that is open, unless it was done before; keep the answer with it."""
    before = known(store, identity, digest) if identity is not None else None
    return noted_results(store, results_of(store, operations), identity, digest) if before is None else before


def noted_results(store: Store, results: List[object], identity: Optional[str], digest: bytes) -> bytes:
    """Return the answer that results are, and keep it with what was written."""
    answer = packed_results(results)
    if identity is not None:
        note(store, identity, digest, answer)
    return answer


def done(store: Store, operations: Sequence[Operation]) -> bytes:
    """Do what is asked, and return the answer; for another thread than that of the event loop."""
    return packed_results(results_of(store, operations))


def results_of(store: Store, operations: Sequence[Operation]) -> List[object]:
    """Do what is asked, one after the other, and return the results. Raises: Stopped, where one cannot be."""
    results: List[object] = []
    for at, (name, *arguments) in enumerate(operations):
        try:
            results.append(checked(name, arguments)(store, *arguments))
        except VaultError as error:
            raise Stopped(at, error) from error
    return results


def require_reading(request: OpsRequest) -> None:
    """Raise when anything of a request would write."""
    for name, *_ in request.operations:
        if name not in VERBS_THAT_READ and name not in MAY_READ:
            raise VaultReadOnlyError('the token may only read this vault: ask for one with the right to write')
