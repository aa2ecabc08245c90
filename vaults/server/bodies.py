"""Bodies: what a client sends, as it comes, with limits to how much and how slowly. Knows neither vaults nor routes."""
from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, AsyncIterator, Optional

from ..errors import VaultTypeError, VaultValueError
from .answers import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

PATIENCE = 10.0         # seconds to wait for the next piece of a body
SLOWEST = 1024          # bytes a second, on the whole, after PATIENCE seconds of waiting
CLOSE = {'Connection': 'close'}     # what is left of a body that is refused is not read


class DisconnectedError(Exception):
    """The client has gone before its request was there."""


def require_limits(max_body: int, max_stream: Optional[int]) -> None:
    """Raises: VaultTypeError and VaultValueError for limits that make no sense."""
    for name, size in (('max_body', max_body), *([] if max_stream is None else [('max_stream', max_stream)])):
        if not isinstance(size, int) or isinstance(size, bool):
            raise VaultTypeError(f'{name} is a number of bytes, not {size!r}')
        if size < 1:
            raise VaultValueError(f'{name} is a number of bytes from 1 on, not {size}')
    if max_stream is not None and max_stream < max_body:
        raise VaultValueError(f'streams of at most {max_stream} bytes make no sense where a body may have {max_body}: '
                              f'what is too large for one is put as a stream; have max_body, --max-body, be '
                              f'{max_stream} at most')


async def body_pieces(request: Request, limit: Optional[int]) -> AsyncIterator[bytes]:
    """Yield the body as it comes; only waiting for the client counts as its time.

    Raises: Refusal, 413 by its header or once it is more than `limit` bytes, 408 when it does not come.
    """
    if request.headers.get('content-encoding', 'identity').lower() != 'identity':
        raise Refusal(415, 'a body is taken as it is, without a Content-Encoding')
    announced = _announced(request)
    if limit is not None and announced is not None and announced > limit:
        raise _too_large(limit)
    loop, waited, size, more = asyncio.get_running_loop(), 0.0, 0, True
    while more:
        began = loop.time()
        try:
            message = await asyncio.wait_for(request.receive(), min(PATIENCE, PATIENCE + size / SLOWEST - waited))
        except asyncio.TimeoutError:
            raise Refusal(408, f'the body stopped after {size} bytes: send it at once', CLOSE) from None
        waited += loop.time() - began
        if message['type'] == 'http.disconnect':
            raise DisconnectedError
        piece, more = message.get('body', b''), message.get('more_body', False)
        size += len(piece)
        if limit is not None and size > limit:
            raise _too_large(limit)
        if piece:
            yield piece
    if announced is not None and size != announced:
        raise DisconnectedError


def _announced(request: Request) -> Optional[int]:
    """Return how long the body is to be, where that is known."""
    text = request.headers.get('content-length')
    if text is None:
        return None
    if not re.fullmatch('[0-9]{1,18}', text):
        raise Refusal(400, 'the Content-Length is no number of bytes', CLOSE)
    return int(text)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f'the body is more than {limit} bytes: put what is large as a stream, in PUT .../stream')
