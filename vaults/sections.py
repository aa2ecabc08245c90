"""Sections: a vault inside a vault, the entries whose keys begin with its path. Knows neither SQL nor values.

A section's key k is the vault's key path + suffix(k):

    users = v.section('users')    users['ann']          is v['users', 'ann']
                                  users['ann', 'age']   is v['users', 'ann', 'age'], and users.section('ann')['age']
                                  users[('ann',)]       is v['users', ('ann',)]
                                  users[()]             is v['users', ()]
"""
from __future__ import annotations

from operator import itemgetter

from . import keys
from ._typing import TYPE_CHECKING, K, V
from .errors import VaultError, VaultTypeError
from .opening import require_function
from .place import place_of
from .stores.base import ClosedStore
from .vault import Vault

if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator, NoReturn, Optional, Sequence, Tuple, Union

    from .keys import Stored
    from .place import Again, Check, Place


COUNTED = 1000  # items; of more, repr does not tell the number, because they would have to be counted


def suffix(key: Any) -> Any:
    """Return what the key is behind the path: itself when it is a tuple of more than one element, else (key,).

    ((1, 2),) is itself as well, and so however deep: else (1, 2) and it would be one. So each key has a suffix of its
    own, and each tuple but () is the suffix of a key.
    """
    core = key
    while isinstance(core, tuple) and tuple.__len__(core) == 1:
        core = tuple.__getitem__(core, 0)
    return key if isinstance(core, tuple) and tuple.__len__(core) > 1 else (key,)


def _packed(key: Any) -> Any:
    """Return the stored form of a tuple, but for its end."""
    return keys.encode(key)[:-1]


class Prefixed:
    """What `keys` is for a vault, for the section at `path`."""

    __slots__ = ('_high', '_packed', '_text', 'path')

    def __init__(self, path: Tuple[Any, ...]) -> None:
        self._packed = _packed(path)
        self._high = self._packed + keys.HIGHEST
        self.path: Tuple[Any, ...] = keys.decode(self._packed + b'\0')
        self._text = self._packed + bytes([keys.TEXT_TAG])

    def encode(self, key: Any) -> Any:
        """Return the stored form of the vault's key that `key` stands for. Raises: as keys.encode."""
        if type(key) is str and '\0' not in key:  # most keys: what the line below does, four times faster
            return self._text + key.encode('utf-8', 'surrogatepass') + b'\0\0'
        return self._packed + _packed(suffix(key))[1:] + b'\0'

    def decode(self, stored: Any) -> Any:
        """Return the section's key. Raises: VaultCorruptError when the bytes are no packed key."""
        start = len(self._text)
        if stored.startswith(self._text) and stored.find(b'\0', start) == len(stored) - 2 and not stored[-1]:
            try:
                return stored[start:-2].decode()  # text alone
            except UnicodeDecodeError:
                pass  # it has a lone surrogate, or is damaged
        own = keys.decode(stored)[len(self.path):]
        return own if suffix(own) is own else own[0]

    def decode_many(self, stored: Sequence[Any]) -> Iterable[Any]:
        """Return the section's keys, faster than one by one where all are text alone. Raises: as decode, when walked.

        Each text has two zeros at its end and none before. Where there are not two for each, or they are not side by
        side, some key holds more than a text.
        """
        tag = len(self._text) - 1
        if set(map(itemgetter(tag), stored)) == {keys.TEXT_TAG}:
            try:
                texts = b''.join([one[tag + 1:] for one in stored]).decode()
            except UnicodeDecodeError:
                return map(self.decode, stored)  # a lone surrogate, a zero in a text, or damage
            found = texts.split('\0\0')
            if len(found) == len(stored) + 1 and texts.count('\0') == 2 * len(stored):
                del found[-1]
                return found
        return map(self.decode, stored)

    def whole(self, key: Any) -> Tuple[Any, ...]:
        """Return the vault's key that the section's key is part of."""
        return (*self.path, *suffix(key))

    def bounds(self, low: Any = None, high: Any = None) -> Tuple[Stored, Stored]:
        """Return the stored ends of the half-open range [low, high); None is an end of the section."""
        return (self._packed + b'\x01' if low is None else self.encode(low),
                self._high if high is None else self.encode(high))

    def prefix_bounds(self, prefix: Any) -> Tuple[Stored, Stored]:
        """Return the stored ends of the keys that begin with `prefix`, a text, bytes, or a tuple's first elements.

        Tuples whose first element begins with the text or bytes lie between these keys, and so within.

        Raises: TypeError for any other prefix.
        """
        if isinstance(prefix, tuple):
            start = self._packed + _packed(prefix)[1:]
            return start + (b'\0' if suffix(prefix) is prefix else b'\x01'), start + b'\xff'
        if not isinstance(prefix, (str, bytes)):
            raise TypeError(f'a prefix is str, bytes or tuple, not {prefix!r}: for other keys use a slice, v[a:b]')
        start = self._packed + _packed((prefix,))[1:-1]
        return start, keys.after(start)


class Section(Vault[K, V]):
    """A vault inside a vault: the same verbs, over the entries whose keys begin with `path`, which does not show.

    It is there as long as it has entries, and making it makes nothing. It shares the vault's file, transactions and
    mode, and keeps the vault open as long as it is used. sync(), check(), compact() and backup() are the whole
    vault's. close() closes the section alone; closing the vault closes it too. Safe in any thread.

    Keys sort as the vault's do: a tuple of more than one element stands behind its first one, before the next.
    """

    __slots__ = ()
    _keys: Prefixed

    def __init__(self, parent: Union[Place, Vault[Any, Any]], name: Any, value_type: Any = None,
                 validate: Optional[Check] = None) -> None:
        self._settle(place_in(place_of(parent), name, value_type, validate))

    @property
    def path(self) -> Tuple[Any, ...]:
        """The names that lead here: what the section's keys begin with in the vault."""
        return self._keys.path

    def __bool__(self) -> bool:
        return any(True for _ in self._scan(False, self._keys.bounds(), False))  # and not all counted

    @property
    def closed(self) -> bool:
        return self._place.closed

    @classmethod
    def fromkeys(cls, iterable: Any, value: Any = None) -> NoReturn:
        """Raise VaultTypeError: a section is made of a vault."""
        raise VaultTypeError('a section is part of a vault, and not made by itself: use '
                             'v.section(name).update(dict.fromkeys(...))')

    def close(self) -> None:
        """Close the section, not its vault; an open transaction is rolled back. May be called twice."""
        if not isinstance(self._store, ClosedStore):
            self._store.refuse_others()
            self._shut(ClosedStore(f'{self._place.path}, section {self.path!r}', self._store.rollback))

    def delete_vault(self) -> NoReturn:
        """Raise VaultError: a section has no file."""
        raise VaultError(f'{self!r} is a section, without a file of its own: clear() empties it, and the vault has '
                         'delete_vault()')

    def __reduce__(self) -> Any:
        if isinstance(self._place.again, str):
            raise TypeError(self._place.again)
        return Section, self._place.again[1]

    def _size(self) -> str:
        return super()._size() if self._count_up_to(COUNTED + 1) <= COUNTED else f'more than {COUNTED} items'

    def _title(self) -> str:
        return f'{super()._title()}, {self.path!r}'


def place_in(above: Place, name: Any, value_type: Any, validate: Optional[Check]) -> Place:
    """Return the place of a section in another place. Named in pickles: it stays."""
    coder = Prefixed((*path_of(above), name))
    check = _validation(above.validate, coder.path, value_type, validate)
    again: Again = above.again if isinstance(above.again, str) else (place_in, (above, name, value_type, validate))
    return above.within(coder, check, again)


def path_of(place: Place) -> Tuple[Any, ...]:
    """Return the names that lead to a section; () for a vault."""
    return place.keys.path if isinstance(place.keys, Prefixed) else ()


def _validation(above: Optional[Check], path: Tuple[Any, ...], value_type: Any,
                validate: Optional[Check]) -> Optional[Check]:
    """Return what refuses a value in the section, the validation above it first, or None.

    It holds no vault: in write-back mode the store holds it, and is to end when the vault is dropped.
    """
    require_function(validate)
    wanted = _type_names(value_type)
    if above is validate is value_type is None:
        return None

    def check(key: Any, value: Any) -> None:
        if above is not None:
            above((path[-1], *suffix(key)), value)
        if value_type is not None and not isinstance(value, value_type):
            raise TypeError(f'the section {path!r} takes {wanted}, not {type(value).__name__}: key {key!r}')
        if validate is not None:
            validate(key, value)
    return check


def _type_names(value_type: Any) -> str:
    try:
        isinstance(None, value_type or object)
    except TypeError as error:
        raise VaultTypeError(f'value_type is a type or a tuple of types, not {value_type!r}: {error}') from error
    types = value_type if isinstance(value_type, tuple) else (value_type,)
    return ' or '.join(getattr(one, '__name__', str(one)) for one in types)


def names(vault: Union[Place, Vault[Any, Any]]) -> Iterator[Any]:
    """Yield the first elements of the tuple keys of more than one element, sorted, going from each to the next."""
    place = place_of(vault)
    low, high = place.keys.prefix_bounds(())
    start = len(_packed(path_of(place)))
    name = _first_name(place, low, high, start)
    while name:
        yield from name
        name = _first_name(place, place.keys.prefix_bounds(name)[1], high, start)


def _first_name(place: Place, low: Stored, high: Stored, start: int) -> Tuple[Any, ...]:
    for page, _, _ in place.store.scan(low, high, by_key=True, values=False):
        packed: Any = page  # of bytes: between the bounds of tuples there is nothing else
        for key in map(place.keys.decode, [one for one in packed if not _is_alone(one, start)]):
            if type(key) is tuple and len(key) > 1:
                return key[:1]
    return ()


# How long packed elements are: text and bytes end with their first zero, as long as they hold none.
ENDED = frozenset([keys.TEXT_TAG, keys.BYTES_TAG])
LENGTHS = {keys.NONE_TAG: 1, keys.DATE_TAG: 5, keys.NAIVE_TAG: 9, keys.AWARE_TAG: 9, keys.UUID_TAG: 17}
INT_LENGTHS = {bytes([keys.NUMBER_TAG, sized]): size + 3 for size in range(17) for sized in (0x80 + size, 0x7F - size)}


def _is_alone(packed: bytes, start: int) -> bool:
    """Tell from a look at its bytes that a key has one element from `start` on; where that is not clear, false.

    All keys beside the nested ones must be passed, because they lie among these: decoding each takes ten times longer.
    """
    if start >= len(packed):  # the key is damaged: who decodes it says so
        return False
    tag, end = packed[start], len(packed) - 1
    if tag in ENDED:
        return packed.find(0, start) == end - 1
    return (LENGTHS.get(tag) or INT_LENGTHS.get(packed[start:start + 2])) == end - start
