"""ServerAsking: a request is sent until it is answered, as long as the timeout lasts. Knows no verbs.

Whatever writes has a key, by which the server knows it again: so all may be asked again, and nothing is done twice.
When no answer comes at all, it is said whether it may have been done.
"""
from __future__ import annotations

import json
from time import monotonic, sleep

from msgpack import UnpackException

from ...errors import (
    VaultBusyError,
    VaultClosedError,
    VaultError,
    VaultFormatError,
    VaultNotFoundError,
    VaultReadOnlyError,
    VaultUnreachableError,
    VaultUnsureError,
    VaultValueError,
)
from .address import TOKEN_VARIABLE
from .connecting import LostAnswerError, UnsentError, UselessError, pool_of
from .wire import WIRE_TYPE, error_from, packed_request, unpacked_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence

    from ..base import Options
    from .address import ServerAddress
    from .connecting import HttpAnswer
    from .wire import Operation

ANSWER_PATIENCE = 60.0         # seconds beyond `timeout` that an answer may take
LONG_PATIENCE = 7200.0  # that one may take to what looks at everything, as check() does
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25     # seconds between two attempts
PASSING = (429, 502, 503, 504)              # of a server, or what stands before it: it may answer in a moment


class RefusedVerb(Exception):
    """The server has answered with an error: which, and the place of the verb that met it, which has done nothing."""

    def __init__(self, error: VaultError, at: int) -> None:
        super().__init__(error, at)
        self.error, self.at = error, at


class ServerAsking:
    """A server that is asked about one vault. Safe in any thread."""

    def __init__(self, address: ServerAddress, options: Options) -> None:
        self.address, self.options, self.shown = address, options, address.shown
        self.pool = pool_of(address, max(options.timeout, 1.0))
        self._headers = {'Content-Type': WIRE_TYPE, 'Accept': WIRE_TYPE, 'User-Agent': 'vaults'}
        token = address.known_token(options.token)
        if token:
            self._headers['Authorization'] = f'Bearer {token}'
        self._ops = address.path('/ops')
        self.is_patient = False     # a server that was there once is waited for

    def ask(self, operations: Sequence[Operation], key: Optional[str] = None, block: Optional[bytes] = None,
            seconds: float = ANSWER_PATIENCE) -> List[Any]:
        """Return the results of verbs. Raises: RefusedVerb, and errors of ours where there is no answer."""
        body = packed_request(block, key, operations)
        return self._results(self.until_answered('POST', self._ops, body, key is not None, seconds))

    def tell(self, *operation: Any) -> Any:
        """Return the result of one verb that reads. Raises: errors of ours alone."""
        try:
            return self.ask((operation,))[0]
        except RefusedVerb as refused:
            raise refused.error from None

    def names(self) -> List[str]:
        """Return the names of the vaults at the server, whose address is that of a root."""
        answer = self.until_answered('GET', f'{self.address.base}/v1/vaults', b'', False)
        found = _json_in(answer).get('vaults')
        if answer.status != 200 or not isinstance(found, list):
            raise self.refusal(answer)
        return [str(name) for name in found]

    def drop(self) -> None:
        """Delete the vault, by a connection of its own: the store was closed."""
        again = ServerAsking(self.address, self.options)
        again.is_patient = True
        try:
            answer = again.until_answered('DELETE', self.address.path(), b'', True)
            if answer.status not in (200, 204, 404):  # it is there no more, where the first answer was lost
                raise again.refusal(answer)
        finally:
            again.pool.close()

    def once(self, body: bytes, seconds: float) -> HttpAnswer:
        """Send a request with verbs once alone. Raises: UnsentError, LostAnswerError."""
        return self._once('POST', self._ops, body, seconds)

    def _results(self, answer: HttpAnswer) -> List[Any]:
        if answer.kind != WIRE_TYPE:
            raise self.refusal(answer)
        try:
            error, results = unpacked_answer(answer.body)
        except (ValueError, TypeError, UnpackException) as malformed:
            raise VaultFormatError(f'the answer of {self.shown} is not that of a server of vaults ({malformed!r}): see '
                                   'what it is that answers there') from None
        if error is not None:
            name, message, at = error
            raise RefusedVerb(error_from(name, f'{message}: vault {self.shown}'), at)
        return results

    def until_answered(self, method: str, path: str, body: bytes, writes: bool,
                       seconds: float = ANSWER_PATIENCE) -> HttpAnswer:
        """Return the answer to a request, which is sent again where none comes.

        Raises: VaultUnsureError, where a write may have been done; VaultUnreachableError; VaultBusyError.
        """
        end, pause, was_sent = monotonic() + self.options.timeout, FIRST_PAUSE, False
        while True:
            try:
                answer = self._once(method, path, body, seconds + self.options.timeout)
                if not self._may_pass(answer):
                    return answer
                problem: Exception = self._busy(answer)
                was_sent = was_sent or answer.status in (502, 504)
                is_queued = self.options.thread_safe and isinstance(problem, VaultBusyError)
                is_final = not is_queued and monotonic() > end
            except UselessError as error:
                raise self._unreachable(error, error.cure) from None
            except UnsentError as error:
                problem, is_final = error, not self.is_patient or monotonic() > end
            except LostAnswerError as error:
                problem, was_sent, is_final = error, True, monotonic() > end
            if is_final:
                raise self._given_up(problem, writes and was_sent)
            sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _once(self, method: str, path: str, body: bytes, seconds: float) -> HttpAnswer:
        wire = self.pool.take()
        answer = wire.ask(method, path, body, self._headers, seconds)
        self.pool.give(wire)
        return answer

    def _may_pass(self, answer: HttpAnswer) -> bool:
        """Tell whether it is to be asked again: nothing was done, or that is not known."""
        if answer.status not in PASSING:
            return False
        if answer.kind != WIRE_TYPE:
            return True
        error = unpacked_answer(answer.body)[0]
        return error is not None and error[0] in (VaultBusyError.__name__, VaultClosedError.__name__)

    def _busy(self, answer: HttpAnswer) -> VaultError:
        """Return the error of an answer that may be another one in a moment."""
        error = unpacked_answer(answer.body)[0] if answer.kind == WIRE_TYPE else None
        said = error[1] if error is not None else _said_in(answer)
        if answer.status in (502, 504):
            return VaultUnreachableError(f'what stands before the server says {answer.status}, {said}')
        return VaultBusyError(f'{said}: vault {self.shown}; wait, or make blocks shorter')

    def _given_up(self, problem: Exception, may_be_done: bool) -> VaultError:
        """Return the error of who has waited for long enough."""
        if isinstance(problem, VaultBusyError) and not may_be_done:
            return problem
        if may_be_done:
            return VaultUnsureError(f'the connection was lost in a write, which may have been done or not, and the '
                                    f'server did not come back in {self.options.timeout:g} s: {problem}: vault '
                                    f'{self.shown}; read what it was to change before it is repeated')
        may_speak_tls = isinstance(problem, LostAnswerError) and not (self.is_patient or self.address.is_secure)
        return self._unreachable(problem, 'see that the server runs, and that its address is right' + (
            '; where it speaks TLS, its URL begins with https://' if may_speak_tls else ''))

    def _unreachable(self, problem: Exception, cure: str) -> VaultUnreachableError:
        return VaultUnreachableError(f'the server of {self.shown} cannot be reached: {problem}; {cure}')

    # --- what a server says that is no answer to verbs ---

    def refusal(self, answer: HttpAnswer) -> VaultError:
        """Return our error for an answer that is none to verbs."""
        status, said, shown = answer.status, _said_in(answer), self.shown
        if 300 <= status < 400:
            there = answer.headers.get('Location', '?')[:200]
            return VaultValueError(f'{shown} is elsewhere, the server says: {there}; no redirect is followed: give the '
                                   'URL where it is')
        if status == 404 and _name_in(answer) == VaultNotFoundError.__name__:
            return VaultNotFoundError(f'there is no vault at {shown}: check its name, or let it be created')
        if status == 404 and _name_in(answer):
            return VaultFormatError(f'the server of {shown} is one of vaults, and has no vaults at this path: see the '
                                    'path before the name, which is that at which it is mounted')
        if status == 404 or status == 405 or not _name_in(answer):
            scheme = ', whether it wants https://' if status == 400 and not self.address.is_secure else ''
            return VaultFormatError(f'{shown} is no vault of a server of vaults, which answers with {status} {said}: '
                                    f'see the host, the port{scheme} and the path before the name, and that `vaults '
                                    'serve` runs there')
        if status == 401:
            return VaultReadOnlyError(self._unknown_caller())
        if status in CURES_BY_STATUS:
            kind, cure = CURES_BY_STATUS[status]
            return kind(f'{said}: vault {shown}; {cure}')  # type: ignore[no-any-return]  # errors of ours
        return error_from(_name_in(answer), f'{said}: vault {shown}')

    def _unknown_caller(self) -> str:
        """Return what is said to who has given no token, or one that the server does not know."""
        if 'Authorization' not in self._headers:
            return (f'the server wants a token: vault {self.shown}; give it by token=, or in the variable '
                    f'{TOKEN_VARIABLE}')
        source = f'of the variable {TOKEN_VARIABLE}' if self.options.token is None else 'that is given by token='
        return (f'the server does not know the token {source}: vault {self.shown}; see that it is the whole of it, and '
                'that the server has it, or its SHA-256, in its file of tokens')


CURES_BY_STATUS: Dict[int, Any] = {
    403: (VaultReadOnlyError, 'have whoever runs the server grant it'),
    408: (VaultUnreachableError, 'the way to the server is too slow, or stalls'),
    413: (VaultValueError, 'keep what is large as a stream, with v.open(key), or have the server take more'),
    415: (VaultFormatError, 'it is another version of vaults: install the same one on both sides'),
    421: (VaultValueError, 'have the server know this name of its own: vaults serve --hostname NAME'),
}


def _json_in(answer: HttpAnswer) -> Dict[str, Any]:
    try:
        found = json.loads(answer.body) if answer.kind == 'application/json' else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _name_in(answer: HttpAnswer) -> str:
    """Return the name of the error that a server of vaults has answered with; of another server ''."""
    found = _json_in(answer)
    return str(found['error']) if 'message' in found and isinstance(found.get('error'), str) else ''


def _said_in(answer: HttpAnswer) -> str:
    """Return what an answer says, in a line."""
    return str(_json_in(answer).get('message') or answer.kind)[:500]
