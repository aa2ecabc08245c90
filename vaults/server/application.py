"""The application: each request past the door, to what answers it, into the log and the metrics. Knows no entries."""
from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Awaitable, Callable, Mapping, Optional

from starlette.responses import Response

from ..errors import VaultError
from . import accesslog, entries, operations, resources, streams
from .answers import RETRY, Refusal, refusal_of
from .bodies import DisconnectedError, require_limits
from .metrics import Metrics
from .requests import Inquiry
from .served import ServedRoot

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from .access import Access

    Handler = Callable[[Inquiry], Awaitable[Response]]

REQUEST_ID = re.compile(r'[A-Za-z0-9._-]{1,128}')
# Nobody is to guess what an answer is, and no page of another site may have it as a script or picture of its own.
ALWAYS = {'X-Content-Type-Options': 'nosniff', 'Cross-Origin-Resource-Policy': 'same-origin',
          'Cache-Control': 'no-cache', 'Vary': 'Accept, Authorization'}
# What a proxy adds: behind one, all the world comes from this machine.
FORWARDED = ('X-Forwarded-For', 'X-Forwarded-Host', 'X-Real-IP', 'Forwarded', 'Via')
OPEN = ('/healthz', '/openapi.json')    # what is answered without a token

# What answers, by path and method. A name in braces is a name without slashes.
ROUTES: Mapping[str, Mapping[str, Handler]] = {
    '/v1/vaults': {'GET': resources.get_names},
    '/v1/vaults/{name}': {'GET': resources.get_vault, 'PUT': resources.put_vault, 'DELETE': resources.delete_vault},
    '/v1/vaults/{name}/entry': {'GET': entries.get_entry, 'PUT': entries.put_entry, 'DELETE': entries.delete_entry},
    '/v1/vaults/{name}/entries': {'GET': entries.get_entries},
    '/v1/vaults/{name}/stream': {'GET': streams.get_stream, 'PUT': streams.put_stream},
    '/v1/vaults/{name}/ops': {'POST': operations.post_ops},
    '/healthz': {'GET': resources.get_health},
    '/metrics': {'GET': resources.get_metrics},
    '/openapi.json': {'GET': resources.get_openapi},
}
PATTERNS = [(re.compile(re.sub('{(.*?)}', '(?P<\\1>[^/]+)', path)), path) for path in ROUTES]


class Application:
    """The ASGI application that serves the vaults of a root. For one event loop at a time.

    It opens vaults when they are first asked for, so that it can be mounted in another application, which runs no
    lifespan of what is mounted in it. That one is to await `close()` when it ends.
    """

    def __init__(self, root: str, access: Access, max_body: int, max_stream: Optional[int], timeout: float) -> None:
        require_limits(max_body, max_stream)
        self.access, self.max_body, self.max_stream = access, max_body, max_stream
        self.root = ServedRoot(root, timeout)
        self.metrics = Metrics()

    async def close(self, grace: float = 0.0) -> None:
        """Wait for open blocks so many seconds, roll those back that are left, and close all vaults."""
        await self.root.end_blocks(grace)
        await self.root.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope['type'] == 'http':
            await self._serve(scope, receive, send)
        elif scope['type'] == 'lifespan':
            await self._live(receive, send)
        else:
            await send({'type': 'websocket.close', 'code': 1008})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message['type'] == 'lifespan.startup':
                self.root.stopping = False
                await send({'type': 'lifespan.startup.complete'})
            else:
                await self.close()
                await send({'type': 'lifespan.shutdown.complete'})
                return

    # --- a request ---

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        asked = Inquiry(scope, receive, send, self, _ident(scope))
        sent = Sent(send, asked)
        self.metrics.running += 1
        try:
            try:
                answer = await self._answer(asked)
                await answer(scope, receive, sent)
            except DisconnectedError:
                pass  # there is nobody to be answered
            except Exception as error:
                if sent.status:
                    raise  # it has begun: the server breaks it off, so that nobody takes a part for the whole
                await self._unforeseen(asked, error)(scope, receive, sent)
        finally:
            self.metrics.running -= 1
            seconds = time.perf_counter() - began
            self.metrics.count(asked.route, asked.method, sent.status, seconds, asked.received, sent.size)
            accesslog.note_request(asked, sent.status, sent.size, seconds)

    async def _answer(self, asked: Inquiry) -> Response:
        try:
            self._require_door(asked)
            handlers = self._route(asked)
            method = 'GET' if asked.method == 'HEAD' else asked.method
            if method not in handlers:
                allowed = [*handlers, *(['HEAD'] if 'GET' in handlers else [])]
                raise Refusal(405, f'there is {", ".join(allowed)} here', {'Allow': ', '.join(allowed)})
            self._require_rights(asked)
            return await handlers[method](asked)
        except Refusal as refusal:
            return refusal.answer()
        except VaultError as error:
            return refusal_of(error, self.root.hidden(asked.name)).answer()

    def _unforeseen(self, asked: Inquiry, error: Exception) -> Response:
        """Return the answer to what nobody foresaw: the log has it, under the request's id."""
        accesslog.unforeseen(asked, error)
        return Refusal(500, f'something went wrong here; the log has it as request {asked.ident}').answer()

    # --- the door ---

    def _require_door(self, asked: Inquiry) -> None:
        """Refuse who may not ask from where they are, or by a name that is not ours, or with no token that is known."""
        client, server = asked.scope.get('client'), asked.scope.get('server')
        if not self.access.knows_address(client and client[0]):
            raise Refusal(403, 'from this address nothing is served')
        if not self.access.has_tokens and any(name in asked.headers for name in FORWARDED):
            raise Refusal(403, 'a proxy stands before this server, so that nobody knows who asks: give it tokens')
        if not self.access.knows_host(asked.header('host') or '', str(server[0]).lower() if server else ''):
            raise Refusal(421, 'the Host of the request is not one of this server: it is told its names by hosts=, or '
                               'vaults serve --hostname NAME')
        if not self.access.knows_origin(asked.header('origin'), asked.headers.get('sec-fetch-site', '')):
            raise Refusal(403, 'pages of other sites are not served')
        asked.caller = self.access.caller(asked.header('authorization'))

    def _route(self, asked: Inquiry) -> Mapping[str, Handler]:
        path: str = asked.scope['path']
        base: str = asked.scope.get('root_path', '')
        path = path[len(base):] if base and path.startswith(base) else path
        for pattern, route in PATTERNS:
            match = pattern.fullmatch(path)
            if match:
                asked.route, asked.name = route, match.groupdict().get('name', '')
                break
        if asked.caller is None and asked.route not in OPEN:
            raise Refusal(401, 'a token is needed: Authorization: Bearer TOKEN', {'WWW-Authenticate': 'Bearer'})
        if not asked.route:
            raise Refusal(404, 'there is nothing at this path: see /openapi.json')
        return ROUTES[asked.route]

    def _require_rights(self, asked: Inquiry) -> None:
        if asked.name and not asked.may('r'):
            raise Refusal(403, 'the token may not read this vault')
        if asked.name and asked.method in ('PUT', 'DELETE') and not asked.may('w'):
            raise Refusal(403, 'the token may not write to this vault')
        if self.root.stopping and asked.route not in (*OPEN, '/v1/vaults/{name}/ops'):
            raise Refusal(503, 'the server is about to end', RETRY)


class Sent:
    """What is sent to a client, counted, and with the headers that every answer has."""

    def __init__(self, send: Send, asked: Inquiry) -> None:
        self._send, self._asked = send, asked
        self.status = self.size = 0

    async def __call__(self, message: Message) -> None:
        if message['type'] == 'http.response.start':
            self.status = message['status']
            given = {name for name, _ in message['headers']}
            always = {**ALWAYS, 'X-Request-Id': self._asked.ident}
            message = {**message, 'headers': [*message['headers'], *(
                (name.lower().encode(), value.encode()) for name, value in always.items()
                if name.lower().encode() not in given)]}
        else:
            body = b'' if self._asked.method == 'HEAD' else message.get('body', b'')
            message = {**message, 'body': body}
            self.size += len(body)
        await self._send(message)


def _ident(scope: Scope) -> str:
    """Return the id of a request, the client's own where that can be in a log."""
    given = [value.decode('latin-1') for name, value in scope['headers'] if name == b'x-request-id']
    return given[0] if len(given) == 1 and REQUEST_ID.fullmatch(given[0]) else os.urandom(8).hex()
