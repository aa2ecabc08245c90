"""Entries: one at a time, and pages of them in order, as JSON or as they are stored. Builds no object of a value.

What a write depends on, ETags and an idempotency key, is compared in the transaction that writes.
"""
from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, NoReturn, Optional, Tuple

from msgpack import Unpacker, packb, unpackb
from starlette.responses import Response

from .. import keys
from ..codecs.codes import MALFORMED, SERIALIZED, code_of, is_header
from ..errors import SerializationError
from ..moving import as_json
from ..settings import recorded
from ..stores.base import entries_of
from .answers import JSON_TYPE, Refusal, as_json_answer, etag_of
from .idempotency import in_block, known, note
from .requests import PACKED_TYPE, chosen_form, conditions_of, json_of, key_of_json

if TYPE_CHECKING:
    from ..keys import Stored
    from ..stores.base import Store
    from .requests import Conditions, Inquiry
    from .served import Served

MOST_JSON = 1 << 20     # bytes of a value, or of a body, that are JSON: made of them are a hundred times as many
MOST_LISTED = 1000      # entries of a page
LISTED = 100            # without a limit
QUICKLY_TAKEN = 1 << 16 # bytes of a value that is looked at where it is written


class Written(NamedTuple):
    """What a write has done: its status, and the ETag of the entry, '' without one."""

    status: int
    etag: str

    def answer(self) -> Response:
        return Response(status_code=self.status, headers={'ETag': self.etag} if self.etag else None)


# --- one ----------------------------------------------------------------------------------------------------------

async def get_entry(asked: Inquiry) -> Response:
    """Answer the value at a key, as JSON or as it is stored."""
    key, conditions, form = asked.key(), conditions_of(asked), chosen_form(asked)
    async with asked.house.root.using(asked.name) as served:
        return await served.read(_entry_as, served.store, key.stored, conditions, form)


def _entry_as(store: Store, key: Stored, conditions: Conditions, form: str) -> Response:
    """Return the answer about an entry; all of it in the reader's thread, which takes what is large."""
    data = store.get(key)
    if data is None:
        raise nothing()
    headers = {'ETag': etag_of(data)}
    if not conditions.matches(headers['ETag']):
        raise Refusal(412, 'the entry is another one', headers)
    if conditions.is_same(headers['ETag']):
        return Response(status_code=304, headers=headers)
    if form == JSON_TYPE:
        return Response(json_form(store, data), headers=headers, media_type=JSON_TYPE)
    if is_header(data):
        raise Refusal(406, 'the value is kept in chunks: GET .../stream has the bytes of a stream, JSON what it is')
    return Response(data, headers=headers, media_type=PACKED_TYPE)


def json_form(store: Store, data: bytes) -> bytes:
    """Return the JSON of a value. Raises: Refusal for one too large, VaultCorruptError."""
    if len(data) > MOST_JSON:
        raise Refusal(406, f'the value has {len(data)} bytes, more than {MOST_JSON}: ask for it as {PACKED_TYPE}')
    form = as_json.from_value(data, recorded(store))
    return json.dumps(form, ensure_ascii=False, allow_nan=False, separators=(',', ':')).encode()


async def put_entry(asked: Inquiry) -> Response:
    """Set the value at a key."""
    key, kind, conditions, identity = asked.key(), asked.media_type(), conditions_of(asked), asked.identity()
    if kind not in (JSON_TYPE, PACKED_TYPE):
        raise Refusal(415, f'the body is {JSON_TYPE} or {PACKED_TYPE}')
    body = await asked.whole(asked.house.max_body if kind == PACKED_TYPE else MOST_JSON)
    async with asked.house.root.using(asked.name) as served:
        def taken() -> Tuple[bytes, Write]:
            data = (packed_value if kind == PACKED_TYPE else value_of_json)(served.store, body)
            return data, Write(asked, served, key.stored, conditions, identity, body)

        def put(data: bytes, write: Write) -> Written:
            return write.once(lambda: served.store.put(key.stored, data), lambda: data)
        if len(body) < QUICKLY_TAKEN:  # in one go: to change threads takes longer
            written = await served.workers.write(lambda: put(*taken()))
        else:
            written = await served.workers.write(put, *await served.workers.long(taken))
    return written.answer()


async def delete_entry(asked: Inquiry) -> Response:
    """Remove an entry."""
    key, conditions, identity = asked.key(), conditions_of(asked), asked.identity()
    async with asked.house.root.using(asked.name) as served:
        write = Write(asked, served, key.stored, conditions, identity, b'')
        written = await served.workers.write(write.once, lambda: served.store.delete(key.stored), lambda: None)
    return written.answer()


def packed_value(store: Store, data: bytes) -> bytes:
    """Return a value that came as it is to be stored. It is looked at by skipping: no object is made of it."""
    if is_header(data):
        raise Refusal(400, 'this is the header of a value in chunks: PUT .../stream puts a stream')
    unpacker = Unpacker(max_buffer_size=max(len(data), 1))
    unpacker.feed(data)
    try:
        unpacker.skip()
        whole = unpacker.tell() == len(data)
    except MALFORMED:
        whole = False
    if not whole:
        raise Refusal(400, 'the body is not one value of msgpack')
    name = recorded(store)
    _require_serializer(name, (name or 'another') if code_of(data) == SERIALIZED else None)
    return data


def value_of_json(store: Store, body: bytes) -> bytes:
    """Return the packed value of a body of JSON. Raises: Refusal."""
    try:
        form = json_of(body.decode())
        found: List[str] = []
        data = as_json.to_value(form, _refuse_pickle, found.append)
    except (ValueError, SerializationError, RecursionError) as error:
        raise Refusal(400, str(error) or 'the body is no JSON that can be stored') from None
    _require_serializer(recorded(store), found[0] if found else None)
    return data


def _require_serializer(name: Optional[str], maker: Optional[str]) -> None:
    """Refuse a value that another serializer than the vault's has made, or none where it has one."""
    if maker != name:
        raise Refusal(409, f'the values of this vault are made by the serializer {name!r}, and this one is not' if name
                      else 'the value was made by a serializer, and belongs into a vault that has it')


def _refuse_pickle() -> NoReturn:
    raise Refusal(400, 'the value holds a pickle, which is no JSON to anybody but Python')


def nothing() -> Refusal:
    return Refusal(404, 'there is nothing at this key', name='KeyError')


class Write:
    """A write that depends on what is there, and is done once for each idempotency key. For the writer's thread."""

    def __init__(self, asked: Inquiry, served: Served, key: Stored, conditions: Conditions, identity: str,
                 body: bytes) -> None:
        """`body`: that of the request, or of one that is not kept, what stands for it."""
        self._asked, self._store, self._key, self._conditions = asked, served.store, key, conditions
        self._identity = identity
        self._digest = b'' if not identity else blake2b(packb([
            asked.method, asked.route, keys.sortable(key), asked.media_type(), conditions.match, conditions.none,
            body]), digest_size=32).digest()
        self.is_new = False     # it was done now, and not before

    def once(self, change: Callable[[], object], after: Callable[[], Optional[bytes]]) -> Written:
        """Do the change, after which the entry has other bytes, or none; or say what was done before."""
        return in_block(self._store, lambda: self._done(change, after))

    def _done(self, change: Callable[[], object], after: Callable[[], Optional[bytes]]) -> Written:
        before = known(self._store, self._identity, self._digest) if self._identity else None
        if before is not None:
            return Written(*unpackb(before))
        there = self._store.get(self._key)
        etag = None if there is None else etag_of(there)
        if not self._conditions.hold(etag):
            raise Refusal(412, 'the entry is another one' if etag else 'there is no entry',
                          {'ETag': etag} if etag else None)
        if there is None and self._asked.method == 'DELETE':
            raise nothing()
        change()
        data = after()
        written = Written(201 if there is None else 204, '' if data is None else etag_of(data))
        if self._identity:
            note(self._store, self._identity, self._digest, packb(list(written)))
        self.is_new = True
        return written


# --- many ---------------------------------------------------------------------------------------------------------

async def get_entries(asked: Inquiry) -> Response:
    """Answer a page of entries in the order of their keys, and the key to go on behind."""
    given = asked.parameters('prefix', 'after', 'limit')
    limit = _limit_of(given.get('limit'))
    low, high = keys.prefix_bounds(given['prefix']) if 'prefix' in given else keys.bounds()
    after = key_of_json(given['after']).stored if 'after' in given else None
    async with asked.house.root.using(asked.name) as served:
        shown, more = await served.read(_page_of, served.store, low, high, after, limit)
    following = as_json.as_line(shown[-1]['key']) if more and shown else None
    return as_json_answer({'entries': shown, 'next': following})


def _limit_of(text: Optional[str]) -> int:
    if text is None:
        return LISTED
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MOST_LISTED):
        raise Refusal(400, f'a limit is a number of entries from 1 to {MOST_LISTED}')
    return int(text)


def _page_of(store: Store, low: Stored, high: Stored, after: Optional[Stored], limit: int,
             ) -> Tuple[List[Dict[str, Any]], bool]:
    """Return entries behind a key, up to the limit or about MOST_JSON bytes; and whether there are more."""
    if after is not None and keys.order(after) >= keys.order(low):
        low = after
    found: List[Tuple[Stored, bytes]] = []
    size = 0
    for key, data in entries_of(store.scan(low, high, by_key=True)):
        if key == after:
            continue
        if len(found) == limit or size > MOST_JSON:
            return _as_shown(store, found), True
        found.append((key, data))
        size += len(data)
    return _as_shown(store, found), False


def _as_shown(store: Store, found: List[Tuple[Stored, bytes]]) -> List[Dict[str, Any]]:
    """Return entries as JSON; of a value too large for it, how many bytes it has."""
    serializer, shown = recorded(store), []
    for key, data in found:
        entry: Dict[str, Any] = {'key': as_json.from_key(keys.decode(key)), 'etag': etag_of(data)}
        if len(data) > MOST_JSON:
            entry['bytes'] = len(data)
        else:
            entry['value'] = as_json.from_value(data, serializer)
        shown.append(entry)
    return shown
