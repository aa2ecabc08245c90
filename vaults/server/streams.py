"""Streams: the bytes of a value, out and in, of any size in flat memory.

What comes in is staged, a few leaves at a time, and becomes the entry at the end, in one transaction: an upload that
breaks leaves nothing.
"""
from __future__ import annotations

import asyncio
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, AsyncIterator, Optional, Tuple

from msgpack import unpackb
from starlette.responses import Response

from .. import log
from ..codecs import codes
from ..codecs.codes import code_of, is_header
from ..collections.kind import kind_of
from ..collections.stream import STREAM_LEAF, Content
from ..collections.tree import Header
from ..errors import VaultError
from .answers import Refusal, etag_of
from .entries import Write, Written, nothing
from .requests import BYTES_TYPE, conditions_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ..place import Place
    from .requests import AskedKey, Inquiry
    from .served import Served

BYTE_RANGE = re.compile(r'bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))')


# --- out ----------------------------------------------------------------------------------------------------------

async def get_stream(asked: Inquiry) -> Response:
    """Answer the bytes of a value, a stream or any bytes or text; or a range of them."""
    key, conditions = asked.key(), conditions_of(asked)
    async with asked.house.root.using(asked.name) as served:
        data = await served.read(served.store.get, key.stored)
        if data is None:
            raise nothing()
        headers = {'ETag': etag_of(data), 'Accept-Ranges': 'bytes'}
        if not conditions.matches(headers['ETag']):
            raise Refusal(412, 'the entry is another one', headers)
        if conditions.is_same(headers['ETag']):
            return Response(status_code=304, headers=headers)
        source = await served.read(Outgoing, served.place, key, data)
    start, stop, status = _stretch_of(asked, headers['ETag'], source.size)
    headers['Content-Length'] = str(stop - start)
    if status == 206:
        headers['Content-Range'] = f'bytes {start}-{stop - 1}/{source.size}'
    answer = StreamAnswer(status_code=status, headers=headers, media_type=BYTES_TYPE)
    answer.pieces = None if asked.method == 'HEAD' else _pieces(asked, source, start, stop)
    return answer


class Outgoing:
    """What is to be sent: a stream, or bytes or text that are an entry. For one task."""

    def __init__(self, place: Place, key: AskedKey, data: bytes) -> None:
        self.key, self.data = key, data
        self.plain = None if is_header(data) else _plain_bytes(data)
        if self.plain is None and not (is_header(data) and kind_of(Header.of(data)).is_bytes):
            raise Refusal(409, 'the value is neither a stream nor bytes nor text: GET .../entry has it')
        self.size = len(self.plain) if self.plain is not None else Content(place, key.key, data).size

    def pieces(self, place: Place) -> Content:
        """Return what reads a stream, in the vault that is open now."""
        return Content(place, self.key.key, self.data)


def _plain_bytes(data: bytes) -> Optional[bytes]:
    """Return the bytes that a packed value has, of text its UTF-8; None when it is neither."""
    if code_of(data) in (codes.BYTEARRAY, codes.TEXT):
        found = unpackb(data, ext_hook=lambda code, payload: bytes(payload))
    elif 0xa0 <= data[0] <= 0xbf or data[0] in (0xd9, 0xda, 0xdb, 0xc4, 0xc5, 0xc6):
        found = unpackb(data, raw=True)
    else:
        return None
    return found if isinstance(found, bytes) else None


def _stretch_of(asked: Inquiry, etag: str, size: int) -> Tuple[int, int, int]:
    """Return where the bytes that are wanted begin and end, and the status: of one range, or of everything."""
    match = BYTE_RANGE.fullmatch((asked.header('range') or '').strip().lower().replace(' ', ''))
    condition = asked.header('if-range')
    if not match or (condition is not None and condition.strip() != etag):
        return 0, size, 200
    first, last, final = match.groups()
    start, stop = (max(size - int(final), 0), size) if final else (int(first), min(int(last or size) + 1, size))
    if not final and last and int(last) < int(first):
        return 0, size, 200
    if start >= size or (final and not int(final)):
        raise Refusal(416, f'there are {size} bytes', {'Content-Range': f'bytes */{size}', 'ETag': etag})
    return start, stop, 206


async def _pieces(asked: Inquiry, source: Outgoing, start: int, stop: int) -> AsyncIterator[bytes]:
    """Yield the bytes between two positions, a leaf at a time."""
    if source.plain is not None:
        yield source.plain[start:stop]
        return
    async with asked.house.root.using(asked.name) as served:
        content = await served.read(source.pieces, served.place)
        while start < stop:
            piece = await served.read(_piece, content, start, stop)
            yield piece
            start += len(piece)


def _piece(content: Content, start: int, stop: int) -> bytes:
    index, inside = divmod(start, STREAM_LEAF)
    leaf = content.leaf(index)
    return bytes(leaf) if not inside and len(leaf) <= stop - start else bytes(leaf[inside:inside + stop - start])


class StreamAnswer(Response):
    """An answer that is sent in pieces, as long as there is somebody to take them."""

    pieces: Optional[AsyncIterator[bytes]] = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({'type': 'http.response.start', 'status': self.status_code, 'headers': self.raw_headers})
        gone = asyncio.ensure_future(_gone(receive))
        try:
            if self.pieces is not None:
                async for piece in self.pieces:
                    if gone.done():
                        return
                    await send({'type': 'http.response.body', 'body': piece, 'more_body': True})
            await send({'type': 'http.response.body', 'body': b''})
        finally:
            gone.cancel()
            if self.pieces is not None:
                await self.pieces.aclose()  # type: ignore[attr-defined]  # it is a generator


async def _gone(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())['type'] != 'http.disconnect':
        pass


# --- in -----------------------------------------------------------------------------------------------------------

async def put_stream(asked: Inquiry) -> Response:
    """Set the value at a key to the body, as a stream."""
    key, conditions, identity = asked.key(), conditions_of(asked), asked.identity()
    if asked.header('content-range') is not None:
        raise Refusal(400, 'a stream is put whole, without a Content-Range')
    async with asked.house.root.using(asked.name) as served:
        there = None if identity else await served.read(served.store.get, key.stored)
        if not identity and not conditions.hold(None if there is None else etag_of(there)):
            raise Refusal(412, 'the entry is another one' if there else 'there is no entry')  # before it is uploaded
        content = await served.workers.write(Content, served.place, key.key, None)
        try:
            digest = blake2b(digest_size=32)
            async for leaf in _in_leaves(asked.pieces(asked.house.max_stream)):
                digest.update(leaf)
                await served.workers.write(content.put, content.size, leaf)
            write = Write(asked, served, key.stored, conditions, identity, digest.digest())
            written: Written = await served.workers.write(
                write.once, content.save, lambda: served.store.get(key.stored))
        except BaseException:
            await _discard(served, content)
            raise
        if not write.is_new:
            await _discard(served, content)
    return written.answer()


async def _in_leaves(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what comes in pieces, in leaves."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        while len(waiting) >= STREAM_LEAF:
            yield bytes(waiting[:STREAM_LEAF])
            del waiting[:STREAM_LEAF]
    if waiting:
        yield bytes(waiting)


async def _discard(served: Served, content: Content) -> None:
    """Remove what was staged; where that cannot be now, compact() does it after a day."""
    try:
        await served.workers.write(content.discard)
    except VaultError as error:
        log.get_logger().warning('what is left of an upload into %r stays until it is compacted: %s', served.name,
                                 error)
