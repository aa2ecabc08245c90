"""Running: the application on a socket of its own, by uvicorn; what is slow is ended, and what is open, in the end.

Uvicorn waits for the end of headers for ever, and for a client that reads nothing; and its parser takes headers of any
length: so the protocol here has deadlines and a limit of its own.
"""
from __future__ import annotations

import errno
import socket
import sys
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Sequence

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import VaultError, VaultValueError
from .access import is_loopback

if TYPE_CHECKING:
    import asyncio

    from .application import Application

HEADERS_TIME = 10.0         # seconds from the connection, or the first byte of a request, to the end of its headers
MOST_HEADERS = 64 << 10     # bytes
READING_TIME = 60.0         # seconds for which a client may read nothing of what is sent to it
REST_TIME = 2.0             # seconds for which the rest of a request is taken that was answered before it was there
KEEP_ALIVE = 30             # seconds until a connection that is not used is closed
GRACE = 10                  # seconds for requests and blocks that are open, when the server ends
MOST_CONNECTIONS = 500      # others are answered 503; each takes a file's number, as each open vault takes some
# What to do where a socket cannot be had, by the number of the error.
SOCKET_CURES = {
    errno.EADDRINUSE: 'something listens there already: end it, or say another with --port N, 0 for any that is free',
    errno.EADDRNOTAVAIL: 'it is no address of this machine: 127.0.0.1 is, say',
    errno.EACCES: 'ports below 1024 are for the superuser: say another with --port N',
}


class Deadlines(HttpToolsProtocol):
    """A connection: as uvicorn has it, with deadlines. For the thread of its event loop."""

    _timer: Optional[asyncio.TimerHandle] = None
    _reading: Optional[asyncio.TimerHandle] = None
    _rest: Optional[asyncio.TimerHandle] = None     # until which what is left of an answered request may come
    _waits, _size = False, 0    # for the end of headers; bytes of them so far

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._stop_waiting()
        _cancel(self._rest)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waits:
            self._size += len(data)
            if self._size > MOST_HEADERS:
                self._refuse(b'431 Request Header Fields Too Large', b'the headers are too large\n')

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._waits:
            self._await_headers()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        _cancel(self._rest)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Take what is left of a request that was refused for a moment, and close: at once, no client reads why."""
        is_whole = not self.cycle.more_body
        super().on_response_complete()
        if not is_whole and not self.transport.is_closing():
            self._rest = self.loop.call_later(REST_TIME, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self.loop.call_later(READING_TIME, self.transport.abort)

    def resume_writing(self) -> None:
        _cancel(self._reading)
        super().resume_writing()

    def _await_headers(self) -> None:
        self._waits, self._size = True, 0
        self._timer = self.loop.call_later(HEADERS_TIME, self._refuse, b'408 Request Timeout',
                                           b'the request did not come\n')

    def _stop_waiting(self) -> None:
        self._waits = False
        _cancel(self._timer)

    def _refuse(self, status: bytes, message: bytes) -> None:
        """Answer what is no request yet, and close; an answer that is under way comes first."""
        self._stop_waiting()
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_headers()
            return
        if not self.transport.is_closing():
            self.transport.write(b'HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close'
                                 b'\r\n\r\n%b' % (status, len(message), message))
            self.transport.close()


def _cancel(timer: Optional[asyncio.TimerHandle]) -> None:
    if timer is not None:
        timer.cancel()


class VaultServer(uvicorn.Server):
    """Uvicorn's server, which waits for open blocks before it ends. For the main thread."""

    def __init__(self, config: uvicorn.Config, application: Application, started: Callable[[], object]) -> None:
        super().__init__(config)
        self._application, self._started = application, started

    async def startup(self, sockets: Optional[List[socket.socket]] = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._started()

    async def shutdown(self, sockets: Optional[List[socket.socket]] = None) -> None:
        """End: blocks that are open go on to their end for a while, for which the server still listens."""
        await self._application.root.end_blocks(GRACE)
        await super().shutdown(sockets)


def bound(host: str, port: int, has_tokens: bool) -> socket.socket:
    """Return a socket at an address. Raises: VaultError, VaultValueError for one that others reach, without tokens."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise VaultValueError(f'{host!r} is no address of this machine ({error}): it is 127.0.0.1, say') from None
    if not has_tokens and not is_loopback(str(address[0])):
        raise VaultValueError(f'without tokens only this machine is served, and {host} is open to others: serve '
                              '127.0.0.1, or say who may do what with --tokens FILE')
    # Named as TCP, or asyncio does not set TCP_NODELAY, and each answer waits 40 ms for the client's acknowledgement.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != 'win32':
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except BaseException as error:
        found.close()
        if isinstance(error, OSError):
            raise VaultError(f'{host}, port {port}, cannot be listened at ({error.strerror}): '
                             f"{SOCKET_CURES.get(error.errno or 0, 'say another with --host and --port')}") from error
        raise
    return found


def listening_at(listener: socket.socket) -> str:
    """Return a URL of what listens: where that is every address of this machine, the one for programs here."""
    host, port = listener.getsockname()[:2]
    if ip_address(host.partition('%')[0]).is_unspecified:
        host = '::1' if ':' in host else '127.0.0.1'
    return f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'


def run_server(application: Application, listener: socket.socket, proxies: Sequence[str],
               started: Callable[[], object]) -> None:
    """Serve until a signal ends it: the requests and blocks that are open have GRACE seconds to end.

    `proxies`: addresses and networks, as `names.sound_proxies` has them, whose X-Forwarded-For is believed.
    """
    config = uvicorn.Config(application, http=Deadlines, ws='none', lifespan='on', log_config=None, access_log=False,
                            server_header=False, proxy_headers=bool(proxies), forwarded_allow_ips=list(proxies),
                            timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=GRACE,
                            limit_concurrency=MOST_CONNECTIONS)
    VaultServer(config, application, started).run([listener])
