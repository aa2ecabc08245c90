"""The access log: a line of JSON for each request. Knows no values, no keys and no tokens, so that none gets into it.

A key is in the query of a request, which is left out; the name of a vault is in.
"""
from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from .requests import Inquiry

LOG = logging.getLogger('vaults.access')


class Lines(logging.Formatter):
    """Makes a line of JSON of each record. Safe in any thread."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == LOG.name and record.levelno == logging.INFO:
            return record.getMessage()  # it is one
        trace = self.formatException(record.exc_info) if record.exc_info else ''
        said = {'time': _time(), 'level': record.levelname, 'message': record.getMessage()}
        return json.dumps({**said, 'trace': trace} if trace else said)


def log_to(stream: TextIO) -> None:
    """Write the log to a stream: requests, and warnings of the server and of vaults."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines())
    for name, level in (('vaults', logging.WARNING), (LOG.name, logging.INFO), ('uvicorn', logging.WARNING)):
        logging.getLogger(name).setLevel(level)
    for name in ('vaults', 'uvicorn'):
        logging.getLogger(name).addHandler(handler)


def _time() -> str:
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())


def note_request(asked: Inquiry, status: int, size: int, seconds: float) -> None:
    """Write down a request that is over. A status of 0: the client was gone before it could be answered."""
    if not LOG.isEnabledFor(logging.INFO):
        return
    client = asked.scope.get('client')
    LOG.info('%s', json.dumps({
        'time': _time(), 'id': asked.ident,
        'client': client[0] if client else None, 'token': asked.caller.id if asked.caller else None,
        'method': asked.method, 'route': asked.route or None, 'vault': asked.name or None, 'status': status,
        'received': asked.received, 'sent': size, 'ms': round(seconds * 1000, 1)}))


def unforeseen(asked: Inquiry, error: Exception) -> None:
    """Write down an error that nobody foresaw, with where it came from."""
    LOG.error('request %s: %s', asked.ident, type(error).__name__, exc_info=error)
