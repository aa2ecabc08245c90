"""Verbs: what a vault on another machine may ask of an engine, and what each argument of it may be.

All that comes from outside is looked at here: keys, ends of ranges, owners of chunks. A store trusts them.
"""
from __future__ import annotations

from itertools import islice

from ..codecs.codes import is_header
from ..errors import VaultValueError
from ..keys import require_bound, require_sound
from ..stores.base import OWNER, SETTINGS_OWNER
from ..stores.http.wire import BYTES_OF_ANSWER, DIGEST, LISTED_AT_ONCE, OPS_PROTOCOL, digest_of
from .idempotency import is_reserved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

    from ..keys import Stored
    from ..stores.base import Store

SOME_VALUES = 64    # that are read before it is looked whether they are enough


def checked(name: Any, arguments: List[Any]) -> Callable[..., object]:
    """Return what does a verb with these arguments. Raises: VaultValueError for what it may not have."""
    shape, function = VERBS.get(name, ('', None)) if type(name) is str else ('', None)
    if function is None:
        raise VaultValueError(f'there is no verb {str(name)[:40]!r}: this is protocol {OPS_PROTOCOL}')
    fixed, _, repeated = shape.partition('*')
    more = len(arguments) - len(fixed)
    if more < 0 or (more and not repeated) or (repeated and more % len(repeated)):
        raise VaultValueError(f'{name} has other arguments: {shape}, not {len(arguments)}')
    for kind, argument in zip(fixed, arguments):
        CHECKS[kind](argument)
    for place, kind in enumerate(repeated):
        check = CHECKS[kind]
        for argument in arguments[len(fixed) + place::len(repeated)]:
            check(argument)
    return function


def _require_data(data: Any) -> None:
    _demand(type(data) is bytes, 'a value is bytes')
    if is_reserved(data[-OWNER:]) and is_header(data):
        raise _not_yours()


def _require_owned(data: Any) -> None:
    """Raise for a header of chunks that belong to no entry: they would go with that one."""
    _demand(type(data) is bytes, 'a value is bytes')
    if is_reserved(data[-OWNER:]) or data[-OWNER:] == SETTINGS_OWNER:
        raise _not_yours()


def _require_owner(owner: Any) -> None:
    _demand(type(owner) is bytes and len(owner) == OWNER, f'an owner is {OWNER} bytes')
    if is_reserved(owner):
        raise _not_yours()


def _not_yours() -> VaultValueError:
    return VaultValueError('these chunks are not for clients: take an owner of your own')


def _require_number(number: Any) -> None:
    _demand(type(number) is int and -1 << 63 <= number < 1 << 63, 'a number has 64 bits')


def _require_truth(value: Any) -> None:
    _demand(type(value) is bool, 'it is true or false')


def _require_digest(digest: Any) -> None:
    _demand(type(digest) is bytes and len(digest) == DIGEST, f'a digest is {DIGEST} bytes')


def _require_last(owner: Any) -> None:
    _demand(type(owner) is bytes and len(owner) in (0, OWNER), f'an owner is {OWNER} bytes, or none')


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise VaultValueError(f'an argument is not what it should be: {what}')


CHECKS: Dict[str, Callable[[Any], object]] = {
    'k': require_sound, 'b': require_bound, 'd': _require_data, 'h': _require_owned, 'o': _require_owner,
    'l': _require_last, 'x': _require_digest, 'i': _require_number, 't': _require_truth}


# --- verbs --------------------------------------------------------------------------------------------------------

def _send_many(store: Store, *keys: Stored) -> List[Optional[bytes]]:
    return _as_many_as_fit(store.get_many(keys[at:at + SOME_VALUES]) for at in range(0, len(keys), SOME_VALUES))


def _send_chunks(store: Store, owner: bytes, *numbers: int) -> List[Optional[bytes]]:
    return _as_many_as_fit(store.get_chunks(owner, numbers[at:at + SOME_VALUES])
                           for at in range(0, len(numbers), SOME_VALUES))


def _as_many_as_fit(portions: Iterator[Iterable[Optional[bytes]]]) -> List[Optional[bytes]]:
    """Return the first values, at least one, until an answer is full: the client asks again for the others."""
    found: List[Optional[bytes]] = []
    size = 0
    for portion in portions:
        for data in portion:
            found.append(data)
            size += len(data or b'')
            if size > BYTES_OF_ANSWER:
                return found
    return found


def _send_page(store: Store, low: Stored, high: Stored, by_key: bool, reverse: bool, values: bool,
               *cursor: Any) -> object:
    if cursor:
        _demand(len(cursor) == 5, 'a cursor has five parts')
        for place, part in enumerate(cursor):
            require_bound(part) if place == 3 else _require_number(part)
    (keys, datas, ids), following = store.page(low, high, by_key=by_key, reverse=reverse, values=values,
                                               cursor=cursor or None)
    return [*keys], [*datas], [*ids], following


def _take_many(store: Store, *flat: Any) -> int:
    return store.put_many(zip(flat[::2], flat[1::2]))


def _delete_if(store: Store, key: Stored, digest: bytes) -> bool:
    """Delete an entry whose bytes have this digest. All that writes is in a transaction."""
    there = store.get(key)
    return there is not None and digest_of(there) == digest and store.delete(key)


def _take_chunks(store: Store, owner: bytes, *flat: Any) -> None:
    store.put_chunks(owner, zip(flat[::2], flat[1::2]))


def _send_numbers(store: Store, owner: bytes, after: int) -> List[int]:
    return [*islice((number for number in store.chunk_numbers(owner) if number > after), LISTED_AT_ONCE)]


def _send_owners(store: Store, after: bytes) -> List[bytes]:
    owners = (owner for owner in store.chunk_owners() if owner > after and not is_reserved(owner))
    return [*islice(owners, LISTED_AT_ONCE)]


def _send_facts(store: Store) -> Dict[str, object]:
    facts = {name: fact for name, fact in store.describe().items() if type(fact) in (str, int, float, bool)}
    return {'protocol': OPS_PROTOCOL, 'longest_key': store.longest_key,
            'numbering': store.numbering, 'facts': facts}


def _send_problems(store: Store) -> List[str]:
    return store.check(lambda key, data: None)


# By name: what its arguments are, those behind * any number of times, and what does it.
VERBS_THAT_READ: Dict[str, Tuple[str, Callable[..., object]]] = {
    'get': ('k', lambda store, key: store.get(key)),
    'get_many': ('*k', _send_many),
    'glance': ('ki', lambda store, key, most: store.glance(key, most)),
    'contains': ('k', lambda store, key: store.contains(key)),
    'contains_many': ('*k', lambda store, *keys: [*store.contains_many(keys)]),
    'count': ('bb', lambda store, low, high: store.count(low, high)),
    'count_up_to': ('ibb', lambda store, most, low, high: store.count_up_to(most, low, high)),
    'page': ('bbttt*c', _send_page),
    'span': ('', lambda store: store.span()),
    'alive': ('ki', lambda store, key, id: store.alive(key, id)),
    'get_chunk': ('oi', lambda store, owner, number: store.get_chunk(owner, number)),
    'get_chunks': ('o*i', _send_chunks),
    'get_both': ('koi', lambda store, key, owner, number: store.get_both(key, owner, number)),
    'chunk_numbers': ('oi', _send_numbers),
    'chunk_owners': ('l', _send_owners),
    'describe': ('', _send_facts),
}
VERBS_THAT_WRITE: Dict[str, Tuple[str, Callable[..., object]]] = {
    'put': ('kd', lambda store, key, data: store.put(key, data)),
    'put_new': ('kd', lambda store, key, data: store.put_new(key, data)),
    'put_many': ('*kd', _take_many),
    'delete': ('k', lambda store, key: store.delete(key)),
    'delete_if': ('kx', _delete_if),
    'delete_many': ('*k', lambda store, *keys: [*store.delete_many(keys)]),
    'delete_range': ('bb', lambda store, low, high: store.delete_range(low, high)),
    'move': ('kt', lambda store, key, last: store.move(key, last)),
    'put_owner': ('kh', lambda store, key, data: store.put_owner(key, data)),
    'put_owner_if': ('kdh', lambda store, key, known, data: store.put_owner_if(key, known, data)),
    'put_chunks': ('o*id', _take_chunks),
    'delete_chunks': ('o*i', lambda store, owner, *numbers: store.delete_chunks(owner, numbers)),
    'delete_all_chunks': ('o', lambda store, owner: store.delete_chunks(owner)),
}
VERBS_ALONE: Dict[str, Tuple[str, Callable[..., object]]] = {
    'check': ('', _send_problems),
    'sync': ('', lambda store: store.sync()),
    'compact': ('', lambda store: store.compact()),
}
VERBS = {**VERBS_THAT_READ, **VERBS_THAT_WRITE, **VERBS_ALONE}
MAY_READ = {'check', 'begin', 'nest', 'release', 'undo', 'commit', 'rollback'}  # of what is no verb that reads
CHECKS['c'] = lambda part: None  # of a cursor, whose parts `_send_page` looks at
