"""OpenAPI: what the server answers, for programs that read it. schemathesis holds it against a running server."""
from __future__ import annotations

from .names import LONGEST_NAME, SERVED_NAME
from .requests import BYTES_TYPE, ETAGS, PACKED_TYPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

    Described = Dict[str, Any]

ANY_TEXT: Described = {'type': 'string'}
A_COUNT: Described = {'type': 'integer', 'minimum': 0}
ANY_VALUE: Described = {
    'description': 'A value: any JSON, where an object with one member whose name begins with ! is a value that JSON '
                   'has not, as {"!tuple": [1, 2]}: see docs/json.md.'}
WHAT_FAILED = {
    400: 'what was asked cannot be understood', 401: 'a token is needed', 403: 'that is not allowed',
    404: 'there is no such vault, or no such entry', 405: 'there is no such method here',
    406: 'there is no such form of it',
    408: 'the body did not come in time', 409: 'it is something else than what was asked for',
    412: 'the conditions do not hold', 413: 'the body is too large', 415: 'a body of this type is not taken',
    416: 'there are fewer bytes', 421: 'the Host of the request is not this server',
    422: 'the idempotency key was used for another request', 500: 'something went wrong in the server, or is damaged',
    503: 'the vault is in use, or the server is about to end: repeat it', 504: 'it may have been done, or not',
    507: 'there is no room left'}
ALWAYS_POSSIBLE = (400, 401, 403, 405, 421, 500, 503)
WHEN_WRITING = (404, 408, 409, 412, 413, 415, 422, 504, 507)


# --- parts --------------------------------------------------------------------------------------------------------

def _members(required: Described, **optional: Any) -> Described:
    return {'type': 'object', 'properties': {**required, **optional}, 'required': [*required],
            'additionalProperties': False}


def _given(where: str, name: str, schema: Described, words: str, required: bool = False) -> Described:
    return {'in': where, 'name': name, 'required': required, 'description': words, 'schema': schema}


def _by_header(name: str, schema: Described, words: str) -> Described:
    return _given('header', name, schema, words)


def _content(media_type: str, schema: Described) -> Described:
    return {media_type: {'schema': schema}}


def _json(schema: Described) -> Described:
    return _content('application/json', schema)


def _reference(name: str) -> Described:
    return {'$ref': f'#/components/schemas/{name}'}


def _answer(words: str, content: Optional[Described] = None, *headers: str) -> Described:
    answer: Described = {'description': words, 'headers': {
        name: {'schema': ANY_TEXT, 'required': True} for name in ('X-Request-Id', *headers)}}
    return {**answer, 'content': content} if content else answer


def _operation(name: str, words: str, answers: Dict[int, Described], *errors: int, parameters: Any = (),
               body: Optional[Described] = None, is_open: bool = False) -> Described:
    failed = {*ALWAYS_POSSIBLE, *errors} - ({401} if is_open else set())
    responses = {**{status: _answer(WHAT_FAILED[status], _json(_reference('Error')),
                                    *(['Allow'] if status == 405 else [])) for status in failed}, **answers}
    described: Described = {
        'operationId': name, 'summary': words, 'parameters': list(parameters),
        'responses': {str(status): responses[status] for status in sorted(responses)},
        'security': [] if is_open else [{'token': []}]}
    return {**described, 'requestBody': {'required': True, 'content': body}} if body else described


def _head_of(operation: Described) -> Described:
    """Return what HEAD answers: what GET does, without a body."""
    responses = {status: {name: part for name, part in answer.items() if name != 'content'}
                 for status, answer in operation['responses'].items()}
    return {**operation, 'operationId': f'head_{operation["operationId"]}', 'responses': responses,
            'summary': f'As GET, without the body: {operation["summary"]}'}


NAME_ASKED = _given('path', 'name', {'type': 'string', 'pattern': SERVED_NAME, 'maxLength': LONGEST_NAME},
               'The name of a vault, which does not end in .db.', True)
KEY: Described = {
    'in': 'query', 'name': 'asked', 'required': True, 'style': 'form', 'explode': True,
    'description': 'Either key, which is text, or json, with any key as docs/json.md writes it: ["log", 2026], say.',
    'schema': {'type': 'object', 'oneOf': [
        {'properties': {'key': ANY_TEXT}, 'required': ['key'], 'additionalProperties': False},
        {'properties': {'json': {'type': 'string', 'format': 'json-key'}}, 'required': ['json'],
         'additionalProperties': False}]}}
TAGS: Described = {'type': 'string', 'format': 'etags', 'pattern': f'^({ETAGS})$'}
MATCH = _by_header('If-Match', TAGS, 'Only where the entry has one of these ETags; * is any entry.')
NONE_MATCH = _by_header('If-None-Match', TAGS, 'Only where the entry has none of these ETags; * is no entry at all.')
ONCE = _by_header('Idempotency-Key', {'type': 'string', 'pattern': '^[!-~]{1,200}$'},
               'A name for this request: with the same one it is not done again for a day, and answered as before.')
WRITTEN = {201: _answer('there was none', None, 'ETag'), 204: _answer('another one was there', None, 'ETag')}
REMOVED = {204: _answer('it is removed')}
VALUE_SENT = {**_json(_reference('Value')), **_content(PACKED_TYPE, {'type': 'string', 'format': 'binary'})}
BYTES = _content(BYTES_TYPE, {'type': 'string', 'format': 'binary'})
ON_KEY = [NAME_ASKED, KEY]

GET_ENTRY = _operation(
    'get_entry', 'The value at a key, as JSON or as it is stored.', {
        200: _answer('the value', VALUE_SENT, 'ETag'), 304: _answer('it is the one that you know', None, 'ETag')},
    404, 406, 412, parameters=[*ON_KEY, MATCH, NONE_MATCH])
GET_STREAM = _operation(
    'get_stream', 'The bytes of a stream, or of any bytes or text, or a range of them.', {
        200: _answer('all bytes', BYTES, 'ETag', 'Accept-Ranges'),
        206: _answer('a range of them', BYTES, 'ETag', 'Accept-Ranges', 'Content-Range'),
        304: _answer('they are those that you know', None, 'ETag')},
    404, 409, 412, 416, parameters=[*ON_KEY, MATCH, NONE_MATCH, _by_header('Range', ANY_TEXT, 'bytes=0-99, say.'),
                                    _by_header('If-Range', ANY_TEXT, 'The ETag of what the range is of.')])

ALL_PATHS: Described = {
    '/v1/vaults': {'get': _operation('get_names', 'The names of the vaults that the token may read.', {
        200: _answer('the names', _json(_members({'vaults': {'type': 'array', 'items': ANY_TEXT}})))})},
    '/v1/vaults/{name}': {
        'get': _operation('get_vault', 'What there is to know about a vault.', {
            200: _answer('the vault', _json(_members({'name': ANY_TEXT, 'entries': A_COUNT, 'engine': ANY_TEXT,
                                                     'writable': {'type': 'boolean'}})))},
            404, parameters=[NAME_ASKED]),
        'put': _operation('put_vault', 'Make a vault, unless it is there.', {
            201: _answer('it is made'), 204: _answer('it was there')}, 404, 507, parameters=[NAME_ASKED]),
        'delete': _operation('delete_vault', 'Delete a vault, with all that is in it.', {
            204: _answer('it is deleted')}, 404, parameters=[NAME_ASKED])},
    '/v1/vaults/{name}/entry': {
        'get': GET_ENTRY, 'head': _head_of(GET_ENTRY),
        'put': _operation('put_entry', 'Set the value at a key.', WRITTEN, *WHEN_WRITING, body=VALUE_SENT,
                          parameters=[*ON_KEY, MATCH, NONE_MATCH, ONCE]),
        'delete': _operation('delete_entry', 'Remove an entry.', REMOVED, 404, 412, 422, 504, 507,
                             parameters=[*ON_KEY, MATCH, NONE_MATCH, ONCE])},
    '/v1/vaults/{name}/entries': {'get': _operation(
        'get_entries', 'A page of entries, in the order of their keys.', {
            200: _answer('the entries, and what to pass as after for the next ones, or null', _json(_members({
                'entries': {'type': 'array', 'items': _reference('Entry')}, 'next': {'type': ['string', 'null']}})))},
        404, parameters=[
            NAME_ASKED, _given('query', 'prefix', ANY_TEXT, 'Only keys that are text, and begin so.'),
            _given('query', 'after', {'type': 'string', 'format': 'json-key'}, 'Only keys behind this one, in JSON.'),
            _given('query', 'limit', {'type': 'integer', 'minimum': 1, 'maximum': 1000, 'default': 100},
                   'At most so many.')])},
    '/v1/vaults/{name}/stream': {
        'get': GET_STREAM, 'head': _head_of(GET_STREAM),
        'put': _operation('put_stream', 'Set the value at a key to a stream, of any size.', WRITTEN, *WHEN_WRITING,
                          body=BYTES, parameters=[*ON_KEY, MATCH, NONE_MATCH, ONCE])},
    '/v1/vaults/{name}/ops': {'post': _operation(
        'post_ops', 'What the engine of a vault on another machine asks, in msgpack, and is answered.', {
            200: _answer('the results', _content(PACKED_TYPE, {'type': 'string', 'format': 'binary'}))},
        404, 408, 413, 415, 422, 504, 507, parameters=[NAME_ASKED],
        body=_content(PACKED_TYPE, {'type': 'string', 'format': 'binary'}))},
    '/healthz': {'get': _operation('get_health', 'Whether the server is well.', {
        200: _answer('it is', _json(_members({'status': {'const': 'ok'}})))}, is_open=True)},
    '/metrics': {'get': _operation('get_metrics', 'What was asked so far, for Prometheus.', {
        200: _answer('the counts', _content('text/plain', ANY_TEXT))})},
    '/openapi.json': {'get': _operation('get_openapi', 'This description.', {
        200: _answer('it', _json({'type': 'object', 'required': ['openapi', 'paths']}))}, is_open=True)},
}

DESCRIPTION: Described = {
    'openapi': '3.1.0',
    'info': {'title': 'vaults', 'version': '1',
             'description': 'Vaults over HTTP: dicts that stay. docs/server.md has the whole of it.'},
    'paths': ALL_PATHS,
    'components': {
        'securitySchemes': {'token': {'type': 'http', 'scheme': 'bearer'}},
        'schemas': {
            'Value': ANY_VALUE,
            'Entry': _members({'key': {'description': 'A key, as docs/json.md writes it.'}, 'etag': ANY_TEXT},
                             value=_reference('Value'),
                             bytes={**A_COUNT, 'description': 'In place of a value too large for JSON, how large.'}),
            'Error': _members({'error': ANY_TEXT, 'message': ANY_TEXT})}}}
