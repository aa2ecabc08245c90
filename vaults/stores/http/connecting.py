"""Connecting: one request and its answer over a connection that is kept for the next one. Knows HTTP, and no verbs.

Whatever ends a request before all of its answer is there ends the connection: nobody may meet the answer to what
somebody else has asked. So does Ctrl-C.

Proxies of the environment are not asked, and no redirect is followed: the token would go to whoever is named there.
"""
from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection

from ..pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Mapping, NamedTuple, Optional

    from .address import ServerAddress

    class HttpAnswer(NamedTuple):
        status: int
        kind: str
        headers: Mapping[str, str]
        body: bytes
else:
    from collections import namedtuple
    HttpAnswer = namedtuple('HttpAnswer', 'status kind headers body')

SENT_TOGETHER = 1 << 16     # bytes: what is less goes with its head, where http.client makes two packets of the two
KEEPALIVE = ((getattr(socket, 'TCP_KEEPIDLE', None), 30), (getattr(socket, 'TCP_KEEPINTVL', None), 10),
             (getattr(socket, 'TCP_KEEPCNT', None), 3))     # a machine that is gone answers nothing
UNTRUSTED_CERTIFICATE = ('its certificate is not one that is trusted here: give the file of its authority in '
                         'SSL_CERT_FILE')
NO_TLS = ('WRONG_VERSION_NUMBER', 'HTTP_REQUEST')    # what OpenSSL calls an answer that is no TLS
SPEAKS_NO_TLS = ('the server speaks no TLS at this port: see the port, or whether its URL begins with http://, which '
                 'protects neither the token nor the values on the way')


class UnsentError(Exception):
    """There is no connection: nothing was sent."""


class UselessError(UnsentError):
    """There is no connection, and to ask again helps nothing: what does is `cure`."""

    def __init__(self, error: Exception, cure: str) -> None:
        super().__init__(str(error))
        self.cure = cure


class LostAnswerError(Exception):
    """The connection was lost: what was sent may have been done."""


class HttpWire:
    """A connection to a server. To be used by one thread at a time."""

    def __init__(self, address: ServerAddress, context: Optional[ssl.SSLContext], seconds: float) -> None:
        """Connect. Raises: UnsentError."""
        self._conn = (HTTPSConnection(address.host, address.port, timeout=seconds, context=context)
                      if address.is_secure else HTTPConnection(address.host, address.port, timeout=seconds))
        host = f'[{address.host}]' if ':' in (address.host or '') else address.host
        port = '' if address.port in (None, self._conn.default_port) else f':{address.port}'
        self._host = f'Host: {host}{port}\r\nAccept-Encoding: identity\r\n'
        try:
            self._conn.connect()
            made = self._conn.sock
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:
                if option is not None:
                    made.setsockopt(socket.IPPROTO_TCP, option, value)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise UselessError(error, UNTRUSTED_CERTIFICATE) from error
        except (OSError, UnicodeError) as error:
            self.close()
            if getattr(error, 'reason', '') in NO_TLS:
                raise UselessError(error, SPEAKS_NO_TLS) from error
            raise UnsentError(str(error) or type(error).__name__) from error
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, path: str, body: bytes, headers: Dict[str, str], seconds: float) -> HttpAnswer:
        """Return the answer to a request. Raises: LostAnswerError; after anything raised it is closed."""
        conn = self._conn
        try:
            conn.sock.settimeout(seconds)
            head = ''.join([f'{method} {path} HTTP/1.1\r\n', self._host, f'Content-Length: {len(body)}\r\n',
                            *(f'{name}: {value}\r\n' for name, value in headers.items()), '\r\n']).encode()
            with suppress(BrokenPipeError, ConnectionResetError):  # a server says why it takes no more, and closes
                for part in (head + body,) if len(body) < SENT_TOGETHER else (head, body):
                    conn.sock.sendall(part)
            answer = HTTPResponse(conn.sock, method=method)
            try:
                answer.begin()
                if answer.length is None and not answer.chunked:  # http.client takes any end for that of the headers
                    raise HTTPException('the answer was cut, or does not say where it ends')
                data = answer.read()
            finally:
                answer.close()
            if answer.will_close:
                self.close()
            return HttpAnswer(answer.status, answer.headers.get_content_type(), dict(answer.headers), data)
        except (OSError, HTTPException) as error:
            self.close()
            raise LostAnswerError(str(error) or type(error).__name__) from error
        except BaseException:
            self.close()
            raise

    def is_idle(self) -> bool:
        """Tell whether it is open: no answer is outstanding between two requests."""
        return self._conn.sock is not None

    def is_lost(self) -> bool:
        """Tell whether the server has closed it, or says what nobody has asked for."""
        made = self._conn.sock
        if made is None:
            return True
        try:
            if hasattr(select, 'poll'):
                looks = select.poll()
                looks.register(made, select.POLLIN)
                return bool(looks.poll(0))
            return bool(select.select([made], [], [], 0)[0])
        except (OSError, ValueError):
            return True

    def close(self) -> None:
        self._conn.close()

    def __del__(self) -> None:
        if hasattr(self, '_conn'):
            self._conn.close()


def pool_of(address: ServerAddress, seconds: float) -> Pool[HttpWire]:
    """Return the connections to a server, none so far."""
    # It heeds SSL_CERT_FILE and SSL_CERT_DIR. To read all of the certificates takes 25 ms.
    context = ssl.create_default_context() if address.is_secure else None
    return Pool(partial(HttpWire, address, context, seconds))
