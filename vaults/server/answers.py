"""Answers: what goes back, and how errors go. Knows neither vaults nor where requests come from.

An error is JSON: {"error": NAME, "message": TEXT}. Paths of this machine do not leave it.
"""
from __future__ import annotations

import json
from hashlib import blake2b

from starlette.responses import Response

from .. import log
from ..errors import VaultBusyError, VaultUnreachableError, VaultUnsureError
from ..stores.http.wire import status_of
from .idempotency import ReusedKeyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Mapping, Optional

    from ..errors import VaultError

JSON_TYPE = 'application/json'
# What clients are told instead of what is about this machine, its tasks and its databases; the first that fits.
TOLD_INSTEAD = (
    (VaultBusyError, 'another client or program was writing for too long, or has a block open: repeat it in a moment'),
    (VaultUnsureError, 'the server behind this one was lost in a write: it may have been done, so look before you '
                       'repeat it'),
    (VaultUnreachableError, 'the server behind this one cannot be reached, nothing was done: repeat it in a moment'))
RETRY = {'Retry-After': '1'}


class Refusal(Exception):
    """A request that is not done, and how that is answered."""

    def __init__(self, status: int, message: str, headers: Optional[Mapping[str, str]] = None, name: str = '') -> None:
        super().__init__(message)
        self.status, self.headers, self.name = status, dict(headers or {}), name or REASONS.get(status, 'Refused')

    def answer(self) -> Response:
        message = str(self).encode('utf-8', 'backslashreplace').decode()  # it may quote half of a pair
        return as_json_answer({'error': self.name, 'message': message}, self.status, self.headers)


REASONS = {400: 'BadRequest', 401: 'Unauthorized', 403: 'Forbidden', 404: 'NotFound', 405: 'MethodNotAllowed',
         406: 'NotAcceptable', 408: 'RequestTimeout', 409: 'Conflict', 412: 'PreconditionFailed',
         413: 'ContentTooLarge', 415: 'UnsupportedMediaType', 416: 'RangeNotSatisfiable', 421: 'MisdirectedRequest',
         422: 'UnprocessableContent', 500: 'InternalServerError', 503: 'ServiceUnavailable'}


def refusal_of(error: VaultError, hidden: Mapping[str, str]) -> Refusal:
    """Return how an error of a vault is answered: `hidden` is what stands in place of paths."""
    status = 422 if isinstance(error, ReusedKeyError) else status_of(error)
    return Refusal(status, worded(error, hidden), RETRY if status == 503 else None, type(error).__name__)


def worded(error: VaultError, hidden: Mapping[str, str]) -> str:
    """Return what clients are told of an error; the log has what they are not told of the servers behind this one."""
    if isinstance(error, ConnectionError):
        log.get_logger().warning('%s', error)
    message = next((words for kind, words in TOLD_INSTEAD if isinstance(error, kind)), str(error))
    for path, name in hidden.items():
        message = message.replace(path, name)
    return message


def as_json_answer(content: Any, status: int = 200, headers: Optional[Dict[str, str]] = None) -> Response:
    """Return an answer of JSON, which json can write."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(',', ':')).encode()
    return Response(body, status, headers, JSON_TYPE)


def etag_of(data: bytes) -> str:
    """Return the ETag of stored bytes, as the header has it. A CRC-32 would be no strong validator."""
    return f'"{blake2b(data, digest_size=16).hexdigest()}"'
