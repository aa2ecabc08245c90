"""Requests: what is asked, read strictly: the query, keys, conditions, and what the answer may be. Knows no vault.

What cannot be understood in full is refused, and nothing is guessed.
"""
from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, NoReturn, Optional, Sequence, Tuple
from urllib.parse import parse_qsl

from starlette.requests import Request

from .. import keys
from ..errors import VaultError
from ..moving import as_json
from .access import may
from .answers import JSON_TYPE, Refusal
from .bodies import body_pieces

if TYPE_CHECKING:
    from typing import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from ..keys import Stored
    from .access import Caller
    from .application import Application

PACKED_TYPE = 'application/vnd.vaults+msgpack'
BYTES_TYPE = 'application/octet-stream'
KEY_PARAMETERS = ('key', 'json')
MOST_DIGITS = 4300      # of an integer of JSON, as Python has it: reading takes time by the square of them
SURROGATE = re.compile(r'\\u[dD][89a-fA-F]')  # as JSON escapes it
IDENTITY = re.compile(r'[\x21-\x7e]{1,200}')        # of a header Idempotency-Key
ONE_ETAG = '(W/)?("[!#-~]*")'
ETAGS = rf'\*|{ONE_ETAG}([ \t]*,[ \t]*{ONE_ETAG})*'


class AskedKey(NamedTuple):
    """A key that is asked for, and its stored form."""

    key: Any
    stored: Stored


class Inquiry(Request):
    """A request, with what is known of it so far. For one task."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, house: Application, ident: str) -> None:
        super().__init__(scope, receive, send)
        self.house, self.ident = house, ident
        self.caller: Optional[Caller] = None
        self.name, self.route = '', ''
        self.received = 0

    def may(self, right: str) -> bool:
        """Tell whether who asks has the right, 'r' or 'w', in the vault that is asked for."""
        return self.caller is not None and may(self.caller, self.name, right)

    def parameters(self, *known: str) -> Dict[str, str]:
        """Return the query; each parameter at most once. Raises: Refusal for any other, and for what is no UTF-8."""
        try:
            text = self.scope.get('query_string', b'').decode('ascii')
            pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors='strict',
                              max_num_fields=len(known) or 1) if text else []
        except ValueError as error:
            raise Refusal(400, f'the query is not understood ({error}): it may have, once each and in UTF-8, '
                               f'{", ".join(known) or "nothing"}') from None
        found = dict(pairs)
        if len(found) < len(pairs) or not found.keys() <= set(known):
            raise Refusal(400, f'the query may have, once each, {", ".join(known) or "nothing"}, and has '
                               f'{", ".join(name[:40] for name, _ in pairs)}')
        return found

    def key(self, *others: str) -> AskedKey:
        """Return the key that the query gives, as text or as JSON."""
        given = self.parameters(*KEY_PARAMETERS, *others)
        asked = [name for name in KEY_PARAMETERS if name in given]
        if len(asked) != 1:
            raise Refusal(400, 'give a key: ?key= with text, or ?json= with any key as docs/json.md has it')
        return key_of_text(given['key']) if 'key' in given else key_of_json(given['json'])

    def header(self, name: str) -> Optional[str]:
        """Return a header that may be there once."""
        found = self.headers.getlist(name)
        if len(found) > 1:
            raise Refusal(400, f'the header {name} is there {len(found)} times: give it once')
        return found[0] if found else None

    def identity(self) -> str:
        """Return the idempotency key, '' without one, which is another one for each token."""
        given = self.header('idempotency-key')
        if given is None:
            return ''
        if not IDENTITY.fullmatch(given):
            raise Refusal(400, 'an Idempotency-Key has 1 to 200 visible characters of ASCII')
        return f'{self.caller.id if self.caller else ""}:{given}'

    def media_type(self) -> str:
        """Return the type of the body, in lower case and without parameters."""
        return (self.header('content-type') or '').partition(';')[0].strip().lower()

    async def pieces(self, limit: Optional[int]) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises: Refusal when it is more, or does not come."""
        async for piece in body_pieces(self, limit):
            self.received += len(piece)
            yield piece

    async def whole(self, limit: int) -> bytes:
        """Return the body. Raises: as `pieces`."""
        return b''.join([piece async for piece in self.pieces(limit)])


# --- keys and JSON ------------------------------------------------------------------------------------------------

def key_of_text(text: str) -> AskedKey:
    return AskedKey(text, keys.encode(text))


def key_of_json(text: str) -> AskedKey:
    """Return the key that a text of JSON is. Raises: Refusal."""
    try:
        key = as_json.to_key(json_of(text))
        return AskedKey(key, keys.encode(key))
    except (VaultError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise Refusal(400, f'this is JSON, but no key ({error}): {text[:80]}') from None


def json_of(text: str) -> Any:
    """Return what a text of JSON is, strictly as RFC 8259 has it. Raises: Refusal."""
    try:
        form = json.loads(text, parse_constant=_no_constant, parse_int=_int_of, parse_float=_float_of)
        if SURROGATE.search(text):
            json.dumps(form, ensure_ascii=False).encode()  # raises for half of a pair
        return form
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f'this is no JSON ({type(error).__name__}: {error}): {text[:80]}') from None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f'{word} is no JSON')


def _int_of(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f'an integer of {len(text)} digits is too long: it goes as {{"!int": "0x..."}}')
    return int(text)


def _float_of(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError('the number is beyond what a float holds: infinity is {"!float": "inf"}')
    return number


# --- conditions ---------------------------------------------------------------------------------------------------

class Conditions(NamedTuple):
    """What If-Match and If-None-Match ask for: '*', ETags, or None where they ask for nothing."""

    match: Optional[Sequence[str]]
    none: Optional[Sequence[str]]

    def hold(self, etag: Optional[str]) -> bool:
        """Tell whether they hold where the entry has this ETag, None where there is none: for what writes."""
        return self.matches(etag) and not self.is_same(etag)

    def matches(self, etag: Optional[str]) -> bool:
        return self.match is None or (etag is not None and (etag in self.match or '*' in self.match))

    def is_same(self, etag: Optional[str]) -> bool:
        """Tell whether If-None-Match names what is there."""
        return self.none is not None and etag is not None and (etag in self.none or '*' in self.none)


def conditions_of(asked: Inquiry) -> Conditions:
    """Return the conditions of a request. Raises: Refusal for what is none."""
    return Conditions(_etags(asked.headers.getlist('if-match'), False),
                      _etags(asked.headers.getlist('if-none-match'), True))


def _etags(given: List[str], weakly: bool) -> Optional[Sequence[str]]:
    """Return the ETags of a header; weak ones count where they are compared weakly, and else are none of ours."""
    if not given:
        return None
    text = ', '.join(given).strip()
    if not re.fullmatch(ETAGS, text):
        raise Refusal(400, f'{text[:80]!r} is neither * nor ETags in double quotes, between commas')
    return ('*',) if text == '*' else [tag for weak, tag in re.findall(ONE_ETAG, text) if weakly or not weak]


# --- what the answer may be ---------------------------------------------------------------------------------------

def chosen_type(accept: Optional[str], offered: Sequence[str]) -> str:
    """Return the one of the offered types that a header Accept prefers, the first of equals. Raises: Refusal."""
    ranges = [_accepted(part) for part in accept.split(',')] if accept and accept.strip() else [('*/*', 1.0)]
    best = max(offered, key=lambda kind: _quality(kind, ranges))
    if not _quality(best, ranges):
        raise Refusal(406, f'there is {" and ".join(offered)}')
    return best


def _accepted(part: str) -> Tuple[str, float]:
    kind, *parameters = (word.strip().lower() for word in part.split(';'))
    quality = next((word[2:] for word in parameters if word[:2] == 'q='), '1')
    try:
        return kind, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return kind, 1.0


def _quality(kind: str, ranges: Sequence[Tuple[str, float]]) -> float:
    """Return how much a type is wanted; what names it most exactly says so."""
    known: Mapping[str, float] = dict(ranges)
    for name in (kind, f'{kind.partition("/")[0]}/*', '*/*'):
        if name in known:
            return known[name]
    return 0.0


def chosen_form(asked: Inquiry) -> str:
    """Return whether an entry is wanted as JSON or as it is stored."""
    return chosen_type(', '.join(asked.headers.getlist('accept')), (JSON_TYPE, PACKED_TYPE))
