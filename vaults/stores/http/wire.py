"""The wire: what the engine and the server have in common, `POST /v1/vaults/{name}/ops`. Knows neither of them.

A request is msgpack, and no array stands in another one but these:

    [block, key, [[verb, argument, ...], ...]]

`block`: the 16 bytes by which the client calls its block, or None outside of one; then all verbs are one transaction.
`key`: the idempotency key of what writes, text, and in a block the number of the request, so to say; or None.
An answer is [None, [result, ...]], or [[name, message, at], None] for an error: that of errors.py, what it says, and
the place of the verb that met it.

The trap: bytes from outside may claim anything. An array of a million empty arrays is a megabyte, and takes sixty. So
a request is read one scalar after the other, so many in all, and no container is ever made that it asks for.
"""
from __future__ import annotations

from hashlib import blake2b

from msgpack import Packer, Unpacker, UnpackException, unpackb

from ... import errors
from ...errors import (
    SerializationError,
    VaultBusyError,
    VaultClosedError,
    VaultCorruptError,
    VaultError,
    VaultExistsError,
    VaultFormatError,
    VaultFullError,
    VaultNotFoundError,
    VaultReadOnlyError,
    VaultTypeError,
    VaultUnreachableError,
    VaultUnsureError,
    VaultValueError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

    Operation = Tuple[Any, ...]

    class OpsRequest(NamedTuple):
        block: Optional[bytes]
        key: Optional[str]
        operations: Sequence[Operation]
else:
    from collections import namedtuple
    OpsRequest = namedtuple('OpsRequest', 'block key operations')

WIRE_TYPE = 'application/vnd.vaults+msgpack'
OPS_PROTOCOL = 1               # which both must speak; what is added, and can be left out, does not change it
MOST_SCALARS = 1 << 17      # of a request
KEYS_OF_REQUEST = 4096      # that a client asks for at a time
BYTES_OF_REQUEST = 1 << 20  # of keys and values, after which a client sends what it has
BYTES_OF_ANSWER = 1 << 22   # of values, after which a server leaves the rest for the next request
LISTED_AT_ONCE = 1 << 15    # numbers or owners of chunks
BLOCK_NAME = 16             # bytes
DIGEST = 32                 # bytes
LONGEST_IDENTITY = 64       # characters of an idempotency key
IDLE_BLOCK = 5.0            # seconds after which a block that nothing was asked in is rolled back

# What each error is in HTTP; the first that fits.
STATUSES: List[Tuple[type, int]] = [
    (VaultNotFoundError, 404), (VaultExistsError, 409), (VaultBusyError, 503), (VaultClosedError, 503),
    (VaultUnreachableError, 503), (VaultUnsureError, 504), (VaultReadOnlyError, 403), (VaultFullError, 507),
    (SerializationError, 400), (VaultValueError, 400), (VaultTypeError, 400), (VaultCorruptError, 500),
    (VaultFormatError, 500), (VaultError, 409)]
NAMED_ERRORS: Dict[str, Any] = {name: kind for name, kind in vars(errors).items()
                                if isinstance(kind, type) and issubclass(kind, VaultError)}


def status_of(error: VaultError) -> int:
    """Return the HTTP status of an error."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def error_from(name: str, message: str) -> VaultError:
    """Return the error of a name, with what it said; of a name that is not known here, a plain one."""
    return NAMED_ERRORS.get(name, VaultError)(message)  # type: ignore[no-any-return]  # they are kept by name


def digest_of(data: bytes) -> bytes:
    """Return what stands for bytes that the other side has as well."""
    return blake2b(data, digest_size=DIGEST).digest()


def packed_request(block: Optional[bytes], key: Optional[str], operations: Sequence[Operation]) -> bytes:
    packed: bytes = Packer().pack((block, key, operations))
    return packed


def packed_results(results: Sequence[object]) -> bytes:
    packed: bytes = Packer().pack((None, results))
    return packed


def packed_error(error: VaultError, at: int = 0) -> bytes:
    packed: bytes = Packer().pack(((type(error).__name__, str(error), at), None))
    return packed


def unpacked_answer(body: bytes) -> Tuple[Optional[Tuple[str, str, int]], List[Any]]:
    """Return the error of an answer, or None, and the results. Raises: ValueError and the like when it is none."""
    error, results = unpackb(body, strict_map_key=False)
    if error is not None:
        name, message, at = error
        return (str(name), str(message), int(at)), []
    if type(results) is not list:
        raise ValueError('no results')
    return None, results


def unpacked_request(body: bytes) -> OpsRequest:
    """Return what a request asks for. Raises: VaultValueError for what is none, or too much."""
    unpacker = Unpacker(max_buffer_size=max(len(body), 1), max_array_len=0, max_map_len=0, max_ext_len=0)
    unpacker.feed(body)
    try:
        if unpacker.read_array_header() != 3:
            raise ValueError('it has other than three parts')
        block, key = unpacker.unpack(), unpacker.unpack()
        if block is not None and not (type(block) is bytes and len(block) == BLOCK_NAME):
            raise ValueError('the block is no 16 bytes')
        if key is not None and not (type(key) is str and 0 < len(key) <= LONGEST_IDENTITY and key.isascii()):
            raise ValueError('the key is no text')
        operations = _operations(unpacker)
        if unpacker.tell() != len(body):
            raise ValueError('there is more behind it')
    except (ValueError, TypeError, UnpackException) as error:
        if isinstance(error, VaultError):
            raise
        raise VaultValueError(f'the body is no [block, key, [[verb, ...], ...]] in msgpack: {error!r}') from None
    return OpsRequest(block, key, operations)


def _operations(unpacker: Any) -> List[Operation]:
    left, operations = MOST_SCALARS, []
    count = unpacker.read_array_header()
    if not 0 < count <= left:
        raise ValueError(f'there are {count} verbs')
    for _ in range(count):
        size = unpacker.read_array_header()
        left -= size
        if not size or left < 0:
            raise VaultValueError(f'a request has at most {MOST_SCALARS} arguments in all: send it in portions')
        operations.append(tuple([unpacker.unpack() for _ in range(size)]))
    return operations
