"""The server: what it answers, each promise held against `vaults serve` on loopback."""
from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.parse
import uuid
from decimal import Decimal
from fractions import Fraction

import msgpack
import pytest

from vaults import Vault, VaultError, VaultNotFoundError, VaultValueError
from vaults.moving import as_json
from vaults.server import leases
from vaults.stores.http.wire import BLOCK_NAME, packed_request, unpacked_answer

from .programs import Planted
from .servers import processes, wait_for
from .serving import Serving

STORED_TYPE = 'application/vnd.vaults+msgpack'
AS_JSON = {'Content_Type': 'application/json'}


def path_to(name, kind='entry', **query):
    return f'/v1/vaults/{name}/{kind}?{urllib.parse.urlencode(query)}'


async def answered(application, method, path, body=b'', *, client=('127.0.0.1', 1), base='', **headers):
    """Ask an ASGI application; return the status and the body of its answer."""
    path, _, query = path.partition('?')
    headers = {'host': 'localhost', 'content-type': 'application/json', **headers}
    scope = {'type': 'http', 'method': method, 'path': base + path, 'root_path': base, 'query_string': query.encode(), 'client': client,
             'server': ('127.0.0.1', 80), 'headers': [(name.lower().encode(), value.encode()) for name, value in headers.items()]}
    sent = []

    async def receive():
        return {'type': 'http.request', 'body': body, 'more_body': False}

    async def send(message):
        sent.append(message)
    await application(scope, receive, send)
    return sent[0]['status'], b''.join(message.get('body', b'') for message in sent)


def ask_directly(application, *request, **options):
    """Ask an ASGI application, in an event loop of its own."""
    return asyncio.run(answered(application, *request, **options))


@pytest.fixture
def served(serving):
    """The name of a new vault of the shared server."""
    name = serving.name()
    assert serving.ask('PUT', f'/v1/vaults/{name}').status == 201
    return name


@contextlib.contextmanager
def beside(serving, name):
    """The vault of that name, opened beside the server."""
    with contextlib.closing(Vault(serving.root / 'vaults' / f'{name}.db')) as v:
        yield v


class TestServedVaults:
    def test_a_vault_is_made_listed_described_and_dropped(self, serving):
        name = serving.name()
        assert serving.ask('GET', f'/v1/vaults/{name}').status == 404
        assert serving.ask('PUT', f'/v1/vaults/{name}').status == 201
        assert serving.ask('PUT', f'/v1/vaults/{name}').status == 204
        assert name in serving.ask('GET', '/v1/vaults').json()['vaults']
        assert serving.ask('GET', f'/v1/vaults/{name}').json() == {'name': name, 'entries': 0, 'engine': 'sqlite', 'writable': True}
        assert serving.ask('DELETE', f'/v1/vaults/{name}').status == 204
        assert serving.ask('DELETE', f'/v1/vaults/{name}').status == 404
        assert name not in serving.ask('GET', '/v1/vaults').json()['vaults']
        assert not list(serving.root.glob(f'vaults/{name}.db*'))

    def test_a_vault_that_was_there_is_served_and_what_is_put_is_in_its_file(self, serving):
        name = serving.name()
        with contextlib.closing(Vault(serving.root / 'vaults' / f'{name}.db')) as v:
            v['a'] = (1, 2)
        assert serving.ask('GET', path_to(name, key='a')).json() == {'!tuple': [1, 2]}
        serving.ask('PUT', path_to(name, key='b'), '{"!set": [1]}', **AS_JSON)
        with beside(serving, name) as v:
            assert v['b'] == {1}

    def test_a_name_that_is_none_is_refused(self, serving):
        for name in ('a%20b', '.a', 'a..b', 'a.db', 'a' * 101, '%C3%A4'):
            assert serving.ask('PUT', f'/v1/vaults/{name}').status == 400, name

    def test_an_error_names_the_vault_and_not_where_it_is(self, serving):
        answer = serving.ask('GET', '/v1/vaults/nowhere/entry?key=a')
        assert answer.status == 404 and answer.json()['error'] == 'VaultNotFoundError'
        assert str(serving.root) not in answer.body.decode()
        with Serving() as own:
            (own.root / 'vaults').write_text('no folder')
            for method, path in (('GET', '/v1/vaults/a'), ('PUT', '/v1/vaults/a'), ('DELETE', '/v1/vaults/a')):
                answer = own.ask(method, path)
                assert answer.status in (404, 500) and str(own.root) not in answer.body.decode(), answer.body

    def test_what_is_not_there_is_said_as_json(self, serving):
        for method, path, status in (('GET', '/', 404), ('GET', '/v1/vaults/', 404), ('POST', '/v1/vaults', 405), ('PATCH', '/v1/vaults/a', 405),
                                     ('GET', '/v1/vaults/a/ops', 405)):
            answer = serving.ask(method, path)
            assert answer.status == status and answer.json().keys() == {'error', 'message'}
            assert (status == 405) == ('Allow' in answer.headers)

    def test_a_vault_that_is_idle_is_closed_and_opened_again(self, root, monkeypatch):
        from vaults.server import app
        from vaults.server import served as rooms
        monkeypatch.setattr(rooms, 'IDLE', .05)
        application = app(root)

        async def used():
            await application.root.make('a')
            async with application.root.using('a') as one:
                await asyncio.sleep(.2)
                assert application.root.open_ones() == [one]
            while application.root._slots:  # it is among the open ones no more when its closing begins
                await asyncio.sleep(.01)
            with pytest.raises(VaultNotFoundError):
                async with application.root.using('nowhere'):
                    pass
            assert not application.root._slots
            async with application.root.using('a') as other:
                assert other is not one and await other.read(other.store.count) == 0
            await application.close()
        asyncio.run(asyncio.wait_for(used(), 20))

    def test_so_many_vaults_are_open_and_no_more(self, root, monkeypatch):
        from vaults.server import app
        from vaults.server import served as rooms
        monkeypatch.setattr(rooms, 'MOST_OPEN', 3)
        application, names = app(root), [f'a{number}' for number in range(8)]

        async def count(name):
            async with application.root.using(name) as one:
                assert one.name == name and len(application.root.open_ones()) <= 3
                return await one.read(one.store.count)

        async def used():
            for name in names:
                await application.root.make(name)
            async with application.root.using('a0') as kept:
                assert [await count(name) for name in names] == [0] * 8 and kept in application.root.open_ones()
            assert await asyncio.gather(*map(count, names[:2])) == [0, 0]
            await application.close()
        asyncio.run(asyncio.wait_for(used(), 30))


class TestServedEntries:
    VALUES = [None, True, -5, 2**64, .1, 1.0, float('inf'), float('nan'), 1 + 2j, '', 'ä', 'a\ud800', b'', b'\0\1', bytearray(b'a'), [1, 'a'], (1, 2),
              {'a': {}}, {'!a': 1}, {1: 'a', (2, 3): 'b'}, {1}, frozenset('a'), dt.date(2026, 11, 30), dt.datetime(2026, 11, 30, 12),
              dt.datetime(2026, 11, 30, 12, tzinfo=dt.timezone.utc), dt.timedelta(1, 0, 5), Decimal('1.50'), Fraction(1, 3), uuid.UUID(int=7),
              range(1, 9, 2), [[[(1, {2}, [b'x'])]]], functools.reduce(lambda inner, _: [inner], range(200), 1)]

    def test_each_value_goes_out_and_comes_back_as_json_and_as_it_is_stored(self, serving, served):
        with beside(serving, served) as v:
            v.update(enumerate(self.VALUES))
            stored = [v._store.get(number) for number in range(len(v))]
        for number, data in enumerate(stored):
            answer = serving.ask('GET', path_to(served, json=number))
            assert answer.json() == as_json.from_value(data) and answer.headers['Content-Type'] == 'application/json'
            assert serving.ask('PUT', path_to(served, key=f'j{number}'), answer.body, **AS_JSON).status == 201
            packed = serving.ask('GET', path_to(served, json=number), Accept=STORED_TYPE)
            assert packed.body == data and packed.headers['Content-Type'] == STORED_TYPE
            assert serving.ask('PUT', path_to(served, key=f'p{number}'), packed.body, Content_Type=STORED_TYPE).status == 201
        with beside(serving, served) as v:
            for number, data in enumerate(stored):
                assert v._store.get(f'p{number}') == v._store.get(f'j{number}') == data

    def test_a_pickle_goes_out_as_it_is_and_is_not_run(self, serving, served, tmp_path):
        with beside(serving, served) as v:
            v['a'] = Planted(tmp_path / 'made')  # which is loaded once, to see that it can be
            (tmp_path / 'made').rmdir()
            data = v._store.get('a')
        assert list(serving.ask('GET', path_to(served, key='a')).json()) == ['!pickle']
        assert serving.ask('GET', path_to(served, key='a'), Accept=STORED_TYPE).body == data
        assert len(serving.ask('GET', path_to(served, 'entries')).json()['entries']) == 1
        assert not (tmp_path / 'made').exists()

    @pytest.mark.parametrize('key', ['', '.', '..', '/', 'a/b?c#d%&+ ', 'ä', '\0', '日本', None, True, 1.5, -7, 2**70 + 1, b'', b'\xff',
                                     ('log', 2026, (b'x',)), 'a\ud800'], ids=repr)
    def test_every_key_can_be_asked_for(self, serving, served, key):
        form = json.dumps(as_json.from_key(key))
        assert serving.ask('PUT', path_to(served, json=form), '1', **AS_JSON).status == 201
        with beside(serving, served) as v:
            (there,) = v
            assert there == key and type(there) is type(key)
        if type(key) is str and '\ud800' not in key:
            assert serving.ask('GET', path_to(served, key=key)).body == b'1'
        assert serving.ask('DELETE', path_to(served, json=form)).status == 204
        assert serving.ask('GET', path_to(served, json=form)).status == 404

    def test_the_status_says_what_was_done(self, serving, served):
        path = path_to(served, key='a')
        assert serving.ask('GET', path).status == serving.ask('DELETE', path).status == serving.ask('HEAD', path).status == 404
        assert serving.ask('GET', path).json()['error'] == 'KeyError'
        assert [serving.ask('PUT', path, '[1]', **AS_JSON).status for _ in range(2)] == [201, 204]
        head = serving.ask('HEAD', path)
        assert head.status == 200 and head.body == b'' and head.headers['Content-Length'] == '3'
        assert serving.ask('DELETE', path).status == 204

    @pytest.mark.parametrize('accept, kind', [(None, 'json'), ('*/*', 'json'), ('application/*;q=.5', 'json'), (STORED_TYPE, STORED_TYPE),
                                              (f'application/json;q=.5, {STORED_TYPE}', STORED_TYPE), (f'{STORED_TYPE};q=0.1, application/json', 'json'),
                                              (f'text/html, {STORED_TYPE};q=.8, */*;q=.1', STORED_TYPE), ('text/html', None)])
    def test_the_form_is_what_the_client_prefers(self, serving, served, accept, kind):
        serving.ask('PUT', path_to(served, key='a'), '1', **AS_JSON)
        answer = serving.ask('GET', path_to(served, key='a'), **({'Accept': accept} if accept else {}))
        if kind is None:
            assert answer.status == 406
        else:
            assert answer.headers['Content-Type'].endswith(kind) and 'Accept' in answer.headers['Vary']

    def test_an_etag_is_a_hash_of_the_stored_bytes(self, serving, served):
        put = serving.ask('PUT', path_to(served, key='a'), '[1]', **AS_JSON)
        hashed = f'"{hashlib.blake2b(msgpack.packb([1]), digest_size=16).hexdigest()}"'
        assert put.headers['ETag'] == serving.ask('GET', path_to(served, key='a')).headers['ETag'] == hashed
        assert serving.ask('GET', path_to(served, key='a'), If_None_Match=f'W/"x", {hashed}').status == 304
        assert serving.ask('GET', path_to(served, key='a'), If_None_Match='"x"').status == 200
        assert serving.ask('GET', path_to(served, key='a'), If_Match='"x"').status == 412
        assert serving.ask('GET', path_to(served, key='a'), If_Match='x').status == 400

    def test_a_write_is_done_when_its_conditions_hold(self, serving, served):
        path = path_to(served, key='a')
        assert serving.ask('PUT', path, '1', **AS_JSON, If_Match='*').status == 412
        etag = serving.ask('PUT', path, '1', **AS_JSON, If_None_Match='*').headers['ETag']
        refused = serving.ask('PUT', path, '2', **AS_JSON, If_None_Match='*')
        assert refused.status == 412 and refused.headers['ETag'] == etag
        assert serving.ask('PUT', path, '2', **AS_JSON, If_Match=f'W/{etag}').status == 412
        assert serving.ask('DELETE', path, If_Match='"x"').status == 412
        new = serving.ask('PUT', path, '2', **AS_JSON, If_Match=f'"x", {etag}')
        assert new.status == 204 and serving.ask('PUT', path, '3', **AS_JSON, If_Match=etag).status == 412
        assert serving.ask('DELETE', path, If_Match=new.headers['ETag']).status == 204

    def test_counting_by_etags_loses_nothing(self, serving, served):
        from .helpers import crowd
        path = path_to(served, key='n')
        serving.ask('PUT', path, '0', **AS_JSON)

        def count():
            for _ in range(10):
                while True:
                    there = serving.ask('GET', path)
                    if serving.ask('PUT', path, str(there.json() + 1), **AS_JSON, If_Match=there.headers['ETag']).status == 204:
                        break
        crowd(count, 4)
        assert serving.ask('GET', path).json() == 40

    def test_a_write_with_an_idempotency_key_is_done_once(self, serving, served):
        path, other = path_to(served, key='a'), path_to(served, key='b')
        first = serving.ask('PUT', path, '1', **AS_JSON, Idempotency_Key='one')
        serving.ask('PUT', path, '2', **AS_JSON)
        again = serving.ask('PUT', path, '1', **AS_JSON, Idempotency_Key='one')
        assert (first.status, first.headers['ETag']) == (again.status, again.headers['ETag']) and first.status == 201
        assert serving.ask('GET', path).json() == 2
        for request in (('PUT', path, '3'), ('PUT', other, '1'), ('DELETE', path, None)):
            assert serving.ask(*request, **AS_JSON, Idempotency_Key='one').status == 422
        assert [serving.ask('DELETE', path, Idempotency_Key='two').status for _ in range(2)] == [204, 204]
        assert serving.ask('PUT', path, '1', **AS_JSON, Idempotency_Key='').status == 400

    def test_a_write_is_not_done_again_after_a_restart(self):
        with Serving() as own:
            own.ask('PUT', '/v1/vaults/a')
            path = path_to('a', key='k')
            assert own.ask('DELETE', path, Idempotency_Key='x').status == 404  # of what failed nothing is kept
            own.ask('PUT', path, '1', **AS_JSON, Idempotency_Key='x')
            own.ask('PUT', path, '2', **AS_JSON)
            own.kill()
            own.start()
            assert own.ask('PUT', path, '1', **AS_JSON, Idempotency_Key='x').status == 201
            assert own.ask('GET', path).json() == 2

    def test_of_what_lives_in_chunks_json_says_what_it_is(self, serving, served):
        with beside(serving, served) as v:
            v.list('l').extend([1, 2, 3])
            v.column('c', 'int8').append(1)
        assert serving.ask('GET', path_to(served, key='l')).json() == {'!list': 3}
        assert serving.ask('GET', path_to(served, key='c')).json() == {'!column': ['int8', 1]}
        assert serving.ask('GET', path_to(served, key='l'), Accept=STORED_TYPE).status == 406
        with beside(serving, served) as v:
            header = v._store.get('l')
        assert serving.ask('PUT', path_to(served, key='stolen'), header, Content_Type=STORED_TYPE).status == 400
        assert serving.ask('PUT', path_to(served, key='l'), '1', **AS_JSON).status == 204
        with beside(serving, served) as v:
            assert not list(v._store.chunk_owners())

    def test_a_value_of_a_serializer_is_taken_by_its_vault_alone(self, serving, served):
        name = serving.name()
        with contextlib.closing(Vault(serving.root / 'vaults' / f'{name}.db', serializer=json)) as v:
            v['a'] = [1]
        form = serving.ask('GET', path_to(name, key='a'))
        assert form.json() == {'!serialized': ['json', '[1]']}
        assert serving.ask('PUT', path_to(name, key='b'), form.body, **AS_JSON).status == 201
        assert serving.ask('PUT', path_to(name, key='b'), '1', **AS_JSON).status == 409
        assert serving.ask('PUT', path_to(served, key='b'), form.body, **AS_JSON).status == 409
        packed = serving.ask('GET', path_to(name, key='a'), Accept=STORED_TYPE).body
        assert serving.ask('PUT', path_to(served, key='b'), packed, Content_Type=STORED_TYPE).status == 409

    def test_what_is_large_goes_as_it_is_stored_and_not_as_json(self, serving, served):
        data = msgpack.packb('x' * (1 << 21))
        assert serving.ask('PUT', path_to(served, key='a'), data, Content_Type=STORED_TYPE).status == 201
        assert serving.ask('GET', path_to(served, key='a')).status == 406
        assert serving.ask('GET', path_to(served, key='a'), Accept=STORED_TYPE).body == data
        assert serving.ask('PUT', path_to(served, key='b'), json.dumps('x' * (1 << 21)), **AS_JSON).status == 413

    @pytest.mark.parametrize('query', ['', 'key=a&json=1', 'key=a&key=b', 'key', 'key=%ff', 'k=a', 'key=a&more=1', 'json=[', 'json={"a":1}',
                                       'json="\\ud800"', 'json=NaN', 'json=1e999', 'json={"!date":1}', 'json={"!pickle":[null,"gASVAAAA"]}'])
    def test_a_query_that_is_no_key_is_refused(self, serving, served, query):
        assert serving.ask('GET', f'/v1/vaults/{served}/entry?{urllib.parse.quote(query, safe="=&%[]{}:,!")}').status == 400

    @pytest.mark.parametrize('body', [b'', b'[', b'NaN', b'[1e999]', b'"\\ud800"', b'\xff', b'{"!date": "x"}', b'{"!list": 1}',
                                      b'{"!pickle": [null, "gASVFAAAAAAAAACMCGJ1aWx0aW5zlIwDbGVulJOULg=="]}', b'{"!msgpack": "xw=="}'])
    def test_a_body_that_is_no_value_is_refused(self, serving, served, body):
        assert serving.ask('PUT', path_to(served, key='a'), body, **AS_JSON).status == 400
        assert serving.ask('GET', path_to(served, key='a')).status == 404

    @pytest.mark.parametrize('body', [b'', b'\xc1', b'\x92\x01', b'\x01\x02', b'\xc7\x05\x05\x01'])
    def test_bytes_that_are_no_value_are_refused(self, serving, served, body):
        assert serving.ask('PUT', path_to(served, key='a'), body, Content_Type=STORED_TYPE).status == 400

    def test_a_body_of_no_known_type_is_refused(self, serving, served):
        for headers in ({}, {'Content_Type': 'text/plain'}, {**AS_JSON, 'Content_Encoding': 'gzip'}):
            assert serving.ask('PUT', path_to(served, key='a'), '1', **headers).status == 415


class TestServedPages:
    def test_pages_go_over_all_entries_in_order(self, serving, served):
        values = {**{f'k{number:03}': number for number in range(250)}, 7: 'x', ('a', 1): None, b'\0': [1], 'ä': True}
        with beside(serving, served) as v:
            v.update(values)
            wanted = [[as_json.from_key(key), as_json.from_value(v._store.get(v._keys.encode(key)))] for key in v[:]]
        found, query = [], {'limit': 40}
        while True:
            page = serving.ask('GET', path_to(served, 'entries', **query)).json()
            assert len(page['entries']) <= 40
            found += [[entry['key'], entry['value']] for entry in page['entries']]
            if page['next'] is None:
                break
            query['after'] = page['next']
        assert found == wanted

    def test_a_prefix_bounds_a_page(self, serving, served):
        with beside(serving, served) as v:
            v.update(dict.fromkeys(['a', 'b', 'ba', 'bb', 'c', 3], 0))

        def keys(**query):
            answer = serving.ask('GET', path_to(served, 'entries', **query)).json()
            return [entry['key'] for entry in answer['entries']], answer['next']
        assert keys(prefix='b') == (['b', 'ba', 'bb'], None)
        assert keys(prefix='b', limit=2) == (['b', 'ba'], '"ba"')
        assert keys(prefix='b', after='"ba"') == (['bb'], None)
        assert keys(prefix='b', after='"z"') == ([], None)
        assert keys(prefix='b', after='3') == (['b', 'ba', 'bb'], None)
        assert keys(prefix='x') == ([], None)

    def test_a_page_is_of_bounded_size(self, serving, served):
        with beside(serving, served) as v:
            v.update({f'{number}': 'x' * 300_000 for number in range(9)})
            v['large'] = 'x' * (1 << 21)
        page = serving.ask('GET', path_to(served, 'entries')).json()
        assert 3 <= len(page['entries']) <= 5 and page['next']
        page = serving.ask('GET', path_to(served, 'entries', after='"8"')).json()
        assert 'value' not in page['entries'][0] and page['entries'][0]['bytes'] > 1 << 21

    @pytest.mark.parametrize('query', ['limit=0', 'limit=1001', 'limit=x', 'limit=²', 'after=[', 'prefix=%ff', 'prefix=a&prefix=b', 'x=1'])
    def test_a_page_that_makes_no_sense_is_refused(self, serving, served, query):
        assert serving.ask('GET', f'/v1/vaults/{served}/entries?{urllib.parse.quote(query, safe="=&%[")}').status == 400


class TestServedStreams:
    CONTENT = bytes(range(256)) * 4000 + b'end'

    @pytest.mark.parametrize('size', [0, 1, 4000, 4001, 1 << 18, (1 << 18) + 1, 3_000_000])
    def test_a_stream_goes_in_and_out(self, serving, served, size):
        data = os.urandom(size)
        put = serving.ask('PUT', path_to(served, 'stream', key='s'), data)
        assert put.status == 201 and serving.ask('PUT', path_to(served, 'stream', key='s'), data).status == 204
        got = serving.ask('GET', path_to(served, 'stream', key='s'))
        assert got.body == data and got.headers['Content-Length'] == str(size)
        with beside(serving, served) as v:
            with v.open('s') as file:
                assert file.read() == data
            v._check()
            assert len(set(v._store.chunk_owners())) <= 1

    def test_a_stream_without_a_length_goes_in(self, serving, served):
        pieces = [b'a' * 100_000, b'b', b'c' * 400_000]
        put = serving.ask('PUT', path_to(served, 'stream', key='s'), iter(pieces))
        assert put.status == 201 and serving.ask('GET', path_to(served, 'stream', key='s')).body == b''.join(pieces)

    def test_bytes_and_text_go_out_as_streams(self, serving, served):
        values = {'b': b'abc', 'a': bytearray(b'ab'), 't': 'tä', 's': 'a\ud800', 'e': '', 'l': 'x' * 70_000}
        with beside(serving, served) as v:
            v.update(values)
            v['d'] = {'a': 1}
        for key, value in values.items():
            data = value.encode('utf-8', 'surrogatepass') if isinstance(value, str) else bytes(value)
            assert serving.ask('GET', path_to(served, 'stream', key=key)).body == data
        assert serving.ask('GET', path_to(served, 'stream', key='d')).status == 409

    @pytest.mark.parametrize('asked, start, stop', [
        ('bytes=0-0', 0, 1), ('bytes=5-', 5, None), ('bytes=-3', -3, None), ('bytes=262143-262144', 262143, 262145), ('Bytes=1-9999999', 1, None),
        ('bytes=-9999999', 0, None)])
    def test_a_range_is_sent(self, serving, served, asked, start, stop):
        serving.ask('PUT', path_to(served, 'stream', key='s'), self.CONTENT)
        answer = serving.ask('GET', path_to(served, 'stream', key='s'), Range=asked)
        wanted = self.CONTENT[start:stop]
        first = self.CONTENT.index(wanted) if start >= 0 else len(self.CONTENT) + start
        first = start if start >= 0 else first
        assert answer.status == 206 and answer.body == wanted
        assert answer.headers['Content-Range'] == f'bytes {first}-{first + len(wanted) - 1}/{len(self.CONTENT)}'

    def test_a_range_that_cannot_be_is_refused_and_one_that_is_none_is_no_range(self, serving, served):
        serving.ask('PUT', path_to(served, 'stream', key='s'), b'abc')
        serving.ask('PUT', path_to(served, 'stream', key='empty'), b'')
        for key, asked in (('s', 'bytes=3-'), ('s', 'bytes=-0'), ('empty', 'bytes=0-'), ('empty', 'bytes=-1')):
            answer = serving.ask('GET', path_to(served, 'stream', key=key), Range=asked)
            assert answer.status == 416 and answer.headers['Content-Range'] == f'bytes */{3 if key == "s" else 0}'
        for asked in ('bytes=2-1', 'bytes=a-b', 'lines=0-1', 'bytes=0-1,2-2', 'bytes=-'):
            answer = serving.ask('GET', path_to(served, 'stream', key='s'), Range=asked)
            assert answer.status == 200 and answer.body == b'abc'

    def test_a_range_of_what_has_changed_is_all_of_it(self, serving, served):
        path = path_to(served, 'stream', key='s')
        etag = serving.ask('PUT', path, b'abc').headers['ETag']
        assert serving.ask('GET', path, Range='bytes=1-', If_Range=etag).body == b'bc'
        other = serving.ask('PUT', path, b'abd').headers['ETag']
        assert other != etag and serving.ask('GET', path, Range='bytes=1-', If_Range=etag).body == b'abd'
        assert serving.ask('GET', path, Range='bytes=1-', If_Range=f'W/{other}').status == 200

    def test_head_says_how_large_it_is(self, serving, served):
        serving.ask('PUT', path_to(served, 'stream', key='s'), self.CONTENT)
        answer = serving.ask('HEAD', path_to(served, 'stream', key='s'))
        assert answer.status == 200 and answer.body == b'' and answer.headers['Content-Length'] == str(len(self.CONTENT))
        assert answer.headers['Accept-Ranges'] == 'bytes' and serving.ask('HEAD', path_to(served, 'stream', key='x')).status == 404

    def test_conditions_hold_for_streams(self, serving, served):
        path = path_to(served, 'stream', key='s')
        etag = serving.ask('PUT', path, b'1', If_None_Match='*').headers['ETag']
        assert serving.ask('PUT', path, b'2', If_None_Match='*').status == 412
        assert serving.ask('PUT', path, b'2', If_Match='"x"').status == 412
        assert serving.ask('GET', path, If_None_Match=etag).status == 304
        assert serving.ask('PUT', path, b'2', If_Match=etag).status == 204
        assert serving.ask('PUT', path, b'2', Content_Range='bytes 0-0/2').status == 400

    def test_an_upload_that_is_repeated_is_done_once_and_leaves_nothing(self, serving, served):
        path = path_to(served, 'stream', key='s')
        first = serving.ask('PUT', path, self.CONTENT, Idempotency_Key='one')
        serving.ask('PUT', path, b'other')
        again = serving.ask('PUT', path, self.CONTENT, Idempotency_Key='one')
        assert (first.status, first.headers['ETag']) == (again.status, again.headers['ETag'])
        assert serving.ask('GET', path).body == b'other'
        assert serving.ask('PUT', path, b'x', Idempotency_Key='one').status == 422
        with beside(serving, served) as v:
            assert all(owner.endswith(b'idempote') for owner in v._store.chunk_owners())

    def test_an_upload_that_breaks_leaves_nothing(self, serving, served):
        serving.ask('PUT', path_to(served, 'stream', key='s'), b'before')
        request = f'PUT {path_to(served, "stream", key="s")} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n'.encode()
        with contextlib.closing(socket.create_connection(('127.0.0.1', serving.port))) as connection:
            connection.sendall(request + bytes(range(256)) * 20_000)
            with beside(serving, served) as v:
                wait_for(lambda: len(list(v._store.chunk_owners())) == 1)  # some of it is staged
        with beside(serving, served) as v:
            wait_for(lambda: not list(v._store.chunk_owners()))
            assert v.open('s').read() == b'before'
            v._check()

    def test_a_stream_that_is_replaced_while_it_is_sent_is_broken_off(self, serving, served):
        path, old = path_to(served, 'stream', key='s'), os.urandom(1 << 24)
        serving.ask('PUT', path, old)
        with contextlib.closing(http.client.HTTPConnection('127.0.0.1', serving.port, timeout=30)) as connection:
            connection.request('GET', path)
            answer = connection.getresponse()
            found = answer.read(1 << 16)
            assert serving.ask('PUT', path, b'new').status == 204
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                while len(found) < len(old):
                    found += answer.read(1 << 16) or answer.read()
                    assert old.startswith(found)  # no byte of another one
                    if answer.isclosed() and len(found) < len(old):
                        raise http.client.IncompleteRead(found)
        assert serving.ask('GET', path).body == b'new'

    def test_streams_go_in_and_out_in_flat_memory(self):
        if not processes():
            pytest.skip('peaks are read in /proc')
        with Serving() as own:
            own.ask('PUT', '/v1/vaults/a')
            piece = os.urandom(1 << 20)

            def upload(megabytes):
                assert own.ask('PUT', path_to('a', 'stream', key='s'), iter([piece] * megabytes)).status in (201, 204)
                with contextlib.closing(http.client.HTTPConnection('127.0.0.1', own.port)) as connection:
                    connection.request('GET', path_to('a', 'stream', key='s'))
                    answer = connection.getresponse()
                    assert sum(map(len, iter(lambda: answer.read(1 << 20), b''))) == megabytes << 20
            upload(16)
            before = own.peak()
            upload(128)
            assert own.peak() - before < 24 << 20


class TestServerItself:
    def test_health_metrics_and_the_description_are_there(self, serving):
        assert serving.ask('GET', '/healthz').json() == {'status': 'ok'}
        assert serving.ask('GET', '/openapi.json').json()['openapi'].startswith('3.')
        serving.ask('GET', '/v1/vaults/nowhere')
        metrics = serving.ask('GET', '/metrics')
        assert metrics.headers['Content-Type'].startswith('text/plain; version=0.0.4')
        values = dict(line.rsplit(' ', 1) for line in metrics.body.decode().splitlines() if line[0] != '#')
        assert int(values['vaults_requests_total{route="/v1/vaults/{name}",method="GET",status="404"}']) >= 1
        count = values['vaults_request_seconds_count{route="/v1/vaults/{name}"}']
        assert values['vaults_request_seconds_bucket{route="/v1/vaults/{name}",le="+Inf"}'] == count
        for name in ('vaults_open_leases', 'vaults_open_vaults', 'vaults_received_bytes_total', 'vaults_sent_bytes_total'):
            assert float(values[name]) >= 0

    def test_the_log_has_a_line_of_json_for_each_request_and_nothing_that_is_private(self):
        token = 'a-token-that-nobody-else-knows'
        with Serving(tokens={token: {'*': 'rw'}}) as own:
            headers = {'Authorization': f'Bearer {token}'}
            own.ask('PUT', '/v1/vaults/a', **headers)
            mine = own.ask('PUT', path_to('a', key='a-private-key'), '"a private value"', **AS_JSON, **headers, X_Request_Id='mine-7')
            assert mine.headers['X-Request-Id'] == 'mine-7'
            other = own.ask('GET', '/v1/vaults/a', **headers, X_Request_Id='bad id\t')
            assert len(other.headers['X-Request-Id']) == 16
            own.ask('GET', '/v1/vaults/a')
            wait_for(lambda: len(own.log) == 4)
            line = next(line for line in own.log if line['id'] == 'mine-7')
            assert {**line, 'time': 0, 'ms': 0} == {
                'time': 0, 'id': 'mine-7', 'client': '127.0.0.1', 'token': hashlib.sha256(token.encode()).hexdigest()[:16], 'method': 'PUT',
                'route': '/v1/vaults/{name}/entry', 'vault': 'a', 'status': 201, 'received': 17, 'sent': 0, 'ms': 0}
            assert own.log[-1]['status'] == 401 and own.log[-1]['token'] is None
            text = (own.folder / 'log').read_text()
            assert not [word for word in (token, 'private') if word in text]

    def test_a_signal_lets_requests_and_blocks_that_are_open_end(self):
        with Serving() as own:
            own.ask('PUT', '/v1/vaults/a')
            block = os.urandom(16)

            def ops(*verbs, key=None):
                return own.ask('POST', '/v1/vaults/a/ops', msgpack.packb([block, key, verbs]), Content_Type=STORED_TYPE)
            assert ops(['begin'], ['put', 'kept', b'\x01']).status == 200
            own.signal(signal.SIGTERM)
            wait_for(lambda: own.ask('GET', '/healthz').status == 503)
            refused = own.ask('GET', path_to('a', key='x'))
            assert refused.status == 503 and 'Retry-After' in refused.headers
            assert ops(['put', 'also', b'\x02'], key='1').status == 200
            assert ops(['commit'], key='2').status == 200
            assert own.wait() == -signal.SIGTERM
            own.start()
            assert own.ask('GET', path_to('a', key='kept')).json() == 1 and own.ask('GET', path_to('a', key='also')).json() == 2

    def test_a_block_that_does_not_end_is_rolled_back_when_the_server_does(self):
        with Serving(constants={'running.GRACE': 1}) as own:
            own.ask('PUT', '/v1/vaults/a')
            body = msgpack.packb([os.urandom(16), None, [['begin'], ['put', 'lost', b'\x01']]])
            assert own.ask('POST', '/v1/vaults/a/ops', body, Content_Type=STORED_TYPE).status == 200
            own.signal(signal.SIGTERM)
            assert own.wait() == -signal.SIGTERM
            own.start()
            assert own.ask('GET', path_to('a', key='lost')).status == 404
            assert own.ask('PUT', path_to('a', key='lost'), '1', **AS_JSON).status == 201

    def test_a_request_that_is_under_way_is_answered_before_the_server_ends(self):
        with Serving() as own:
            own.ask('PUT', '/v1/vaults/a')
            with contextlib.closing(http.client.HTTPConnection('127.0.0.1', own.port, timeout=30)) as connection:
                connection.putrequest('PUT', path_to('a', 'stream', key='s'))
                connection.putheader('Content-Length', '4')
                connection.endheaders(b'ab')
                wait_for(lambda: own.metric('vaults_requests_running') == 2)
                own.signal(signal.SIGTERM)
                time.sleep(.3)
                connection.send(b'cd')
                assert connection.getresponse().status == 201
            assert own.wait() == -signal.SIGTERM
            own.start()
            assert own.ask('GET', path_to('a', 'stream', key='s')).body == b'abcd'


class TestServerInside:
    """The application in another one, and without a server of ours."""

    def test_each_request_may_have_an_event_loop_of_its_own(self, root):
        from vaults.server import app
        application = app(root)
        for base in ('', '/prefix/of/it'):
            name = f'a{len(base)}'
            assert ask_directly(application, 'PUT', f'/v1/vaults/{name}', base=base)[0] == 201
            assert ask_directly(application, 'PUT', path_to(name, key='k'), b'[1]', base=base)[0] == 201
            assert ask_directly(application, 'GET', path_to(name, key='k'), base=base) == (200, b'[1]')
        assert b'"url":"/prefix"' in ask_directly(application, 'GET', '/openapi.json', base='/prefix')[1]
        asyncio.run(application.close())
        with contextlib.closing(Vault(root / 'vaults' / 'a0.db')) as v:
            assert v['k'] == [1]

    @pytest.mark.parametrize('is_cancelled', [False, True])
    def test_a_commit_that_is_asked_for_again_while_it_is_under_way_was_done(self, root, monkeypatch, is_cancelled):
        from vaults.server import app
        under_way, commit = threading.Event(), leases.Lease.commit

        def slow_commit(*arguments):
            under_way.set()
            time.sleep(.2)
            return commit(*arguments)
        monkeypatch.setattr(leases.Lease, 'commit', slow_commit)

        async def main():
            application = app(root)

            def ask(key, *operations):
                return answered(application, 'POST', '/v1/vaults/a/ops', packed_request(bytes(BLOCK_NAME), key, operations), **{'content-type': STORED_TYPE})
            await answered(application, 'PUT', '/v1/vaults/a')
            assert (await ask('one', ('begin',), ('put', 'a', b'\1')))[0] == 200
            first = asyncio.ensure_future(ask('two', ('commit',)))
            while not under_way.is_set():
                await asyncio.sleep(.01)
            if is_cancelled:
                first.cancel()
            again = await ask('two', ('commit',))
            assert again[0] == 200, unpacked_answer(again[1])
            if not is_cancelled:
                assert await first == again
            assert await answered(application, 'GET', path_to('a', key='a')) == (200, b'1')
            await application.close()
        asyncio.run(main())

    def test_a_block_that_is_asked_for_again_while_the_first_is_refused_begins(self, root):
        from vaults.server import app

        async def main():
            application = app(root, timeout=.2)

            def ask(block, key, *operations):
                return answered(application, 'POST', '/v1/vaults/a/ops', packed_request(bytes([block] * BLOCK_NAME), key, operations),
                                **{'content-type': STORED_TYPE})
            await answered(application, 'PUT', '/v1/vaults/a')
            assert (await ask(1, 'one', ('begin',)))[0] == 200
            first, again = (asyncio.ensure_future(ask(2, 'two', ('begin',), ('put', 'a', b'\1'))) for _ in range(2))
            assert (await first)[0] == 503
            assert (await ask(1, 'three', ('commit',)))[0] == 200
            status, answer = await again
            assert status == 200, unpacked_answer(answer)
            assert (await ask(2, 'four', ('commit',)))[0] == 200
            assert await answered(application, 'GET', path_to('a', key='a')) == (200, b'1')
            await application.close()
        asyncio.run(main())

    def test_it_is_mounted_in_another_application_and_closed_by_it(self, root):
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Mount, Route

        from vaults.server import app
        mounted, events = app(root, {'the-token': {'*': 'rw'}}), []

        @contextlib.asynccontextmanager
        async def lifespan(outer):
            events.append('begun')
            yield
            await mounted.close()
            events.append('closed')

        outer = Starlette(routes=[Route('/', lambda request: PlainTextResponse('mine')), Mount('/vaults', mounted)], lifespan=lifespan)
        with run_by_uvicorn(outer) as port:
            def ask(method, path, body=None, **headers):
                with contextlib.closing(http.client.HTTPConnection('127.0.0.1', port, timeout=30)) as connection:
                    connection.request(method, path, body, headers)
                    answer = connection.getresponse()
                    return answer.status, answer.read()
            token = {'Authorization': 'Bearer the-token', 'Content-Type': 'application/json'}
            assert ask('GET', '/') == (200, b'mine') and ask('GET', '/vaults/v1/vaults')[0] == 401
            assert ask('PUT', '/vaults/v1/vaults/a', **token)[0] == 201
            assert ask('PUT', '/vaults' + path_to('a', key='k'), '1', **token)[0] == 201
            assert ask('GET', '/vaults' + path_to('a', key='k'), **token) == (200, b'1')
            assert ask('PUT', '/vaults' + path_to('a', 'stream', key='s'), b'x' * 500_000, **token)[0] == 201
            assert ask('GET', '/vaults' + path_to('a', 'stream', key='s'), **token) == (200, b'x' * 500_000)
            assert ask('PATCH', '/vaults/v1/vaults', **token)[0] == 405 and ask('GET', '/vaults/nothing', **token)[0] == 404
        assert events == ['begun', 'closed'] and not mounted.root.open_ones()

    def test_what_nobody_foresaw_is_in_the_log_under_the_id_of_the_request(self, root, monkeypatch, caplog):
        from vaults.server import app
        application = app(root)
        monkeypatch.setattr(application.root, 'names', lambda: 1 / 0)
        with caplog.at_level('INFO', 'vaults.access'):
            status, body = ask_directly(application, 'GET', '/v1/vaults', **{'x-request-id': 'mine'})
        assert status == 500 and 'mine' in json.loads(body)['message'] and b'division' not in body
        assert 'request mine: ZeroDivisionError' in caplog.text and '"status": 500' in caplog.text

    @pytest.mark.parametrize('given, error', [
        ({'hosts': 'example.org'}, 'hosts are a list of texts'), ({'origins': 'https://example.org'}, 'origins are a list of texts'),
        ({'allow': '10.0.0.0/8'}, 'allow are a list of texts'), ({'hosts': [b'a']}, 'hosts are a list of texts'), ({'allow': [5]}, 'list of texts'),
        *(({'hosts': [host]}, 'is no name of a host') for host in (
            'https://a.example', 'a.example:443', 'a.example/', 'a b', '', 'bücher.example', '::1', '*.example.org', '[::1]:80')),
        *(({'origins': [origin]}, 'is no origin of pages') for origin in (
            'a.example', 'https://', 'https://a.example/', 'https://a.example/page', 'https://a.example:443', 'http://a.example:80', 'null', '*',
            'https://user@a.example', '')),
        *(({'tokens': {'one': {name: 'r'}}}, 'is no name of a vault here') for name in ('bad name', 'a/b', '', 'a.db', 'é', 'x' * 101, '**')),
        ({'max_body': 0}, 'from 1 on, not 0'), ({'max_body': '1'}, 'is a number of bytes'), ({'max_body': True}, 'is a number of bytes'),
        ({'max_stream': -1}, 'from 1 on, not -1'), ({'max_body': 10, 'max_stream': 9}, 'streams of at most 9 bytes make no sense')])
    def test_what_can_never_work_is_refused_when_it_is_given(self, root, given, error):
        from vaults.server import app
        with pytest.raises(VaultError, match=error):
            app(root, **given)

    def test_what_is_unusual_and_works_is_taken(self, root):
        from vaults.server import app
        app(root, {'one': {'a.b-c_d': 'r', '*': ''}}, allow=['10.1.2.3/8', '::1'], hosts=['*', 'A.Example', '[fe80::1]', 'a_b', '10.0.0.1'],
            origins=['https://A.example', 'http://localhost:3000', 'chrome-extension://abc', 'http://[::1]:1', 'https://a.example:80'],
            max_body=10, max_stream=10)

    @pytest.mark.parametrize('url', ['http://127.0.0.1:1', 'https://vaults.example.org/data/', 'HTTP://localhost'])
    def test_a_server_of_vaults_is_no_root_to_be_served_anew(self, url):
        # It would answer everybody on this machine with the token of who began it.
        from vaults.server import app
        with pytest.raises(VaultValueError, match='are served already.*--root FOLDER') as caught:
            app(url)
        assert url in str(caught.value)

    def test_without_its_packages_the_extra_is_named(self, root, monkeypatch):
        import sys

        from vaults.server import app
        monkeypatch.setitem(sys.modules, 'vaults.server.application', None)
        with pytest.raises(ImportError, match=r"pip install 'vaults\[server\]'"):
            app(root)


@contextlib.contextmanager
def run_by_uvicorn(application):
    """Run an application by uvicorn, in a thread; give its port."""
    import uvicorn
    server = uvicorn.Server(uvicorn.Config(application, log_level='warning', lifespan='on'))
    server.install_signal_handlers = lambda: None
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


class TestServeCommand:
    def test_it_says_where_it_serves(self):
        with Serving() as own:
            assert (own.folder / 'said').read_text() == f'the vaults of {own.root} are served at {own.url}\n'
        with Serving('--json') as own:
            assert json.loads((own.folder / 'said').read_text()) == {'url': own.url}

    def test_it_serves_vaults_of_another_engine(self, tmp_path):
        (tmp_path / 'a.json').write_text('{"a": 1}')
        with Serving(root=f'json+file://{tmp_path}') as own:
            assert own.ask('GET', '/v1/vaults').json() == {'vaults': ['a']}
            assert own.ask('GET', path_to('a', key='a')).json() == 1
            assert own.ask('PUT', path_to('a', key='b'), '2', **AS_JSON).status == 201
            own.kill()  # what was acknowledged is there
        assert json.loads((tmp_path / 'a.json').read_text())['b'] == 2

    def test_what_a_server_behind_it_says_stays_here(self, server):
        from .servers import Server
        with Server() as behind, Serving(root=behind.url()) as own:
            assert own.ask('PUT', '/v1/vaults/a').status == 201 and own.ask('GET', '/v1/vaults').json() == {'vaults': ['a']}
            assert own.ask('PUT', path_to('a', key='k'), '1', **AS_JSON, Idempotency_Key='x').status == 201
            assert own.ask('PUT', path_to('a', key='k'), '1', **AS_JSON, Idempotency_Key='x').status == 201
            behind.control('-m', 'immediate', 'stop')
            ops = msgpack.packb([None, None, [['get', 'k']]])
            for answer in (own.ask('GET', path_to('a', key='k')), own.ask('POST', '/v1/vaults/a/ops', ops, Content_Type=STORED_TYPE),
                           own.ask('GET', '/v1/vaults')):
                assert answer.status == 503 and b'cannot be reached' in answer.body and str(behind.port).encode() not in answer.body
            assert str(behind.port) in (own.folder / 'log').read_text()
            behind.start()
            assert own.ask('GET', path_to('a', key='k')).json() == 1

    def test_what_makes_no_sense_is_said_before_it_listens(self, serving, root):
        from .programs import finished, spawn
        tokens = root / 'tokens'
        tokens.write_text('{"a": {"*": "rw"}}')
        tokens.chmod(0o644)
        bad = root / 'bad'
        bad.touch(0o600)
        bad.write_text('{"a": "rw"}')
        good = root / 'good'
        good.touch(0o600)
        good.write_text('{"a": {"*": "rw"}}')
        allow = root / 'allow'
        allow.write_text('10.0.0.0/8\nnobody\n')
        for words, said in (
                (['--host', '0.0.0.0'], 'without tokens only this machine is served'), (['--port', '70000'], 'is no port'),
                (['--tokens', str(tokens)], f'chmod 600 {tokens}'), (['--tokens', str(bad)], f'{bad}: the rights of a token are'),
                (['--tokens', str(root / 'none')], 'No such file'), (['--allow', str(allow)], f"{allow}: 'nobody' is neither an address nor a network"),
                (['--root', str(root / 'none')], 'there is no folder'), (['--max-body', '1X'], 'is no number of bytes'),
                (['--port', str(serving.port)], f'127.0.0.1, port {serving.port}, cannot be listened at (Address already in use): '),
                (['--host', '192.0.2.1', '--tokens', str(good)], 'it is no address of this machine')):
            done = finished(spawn('serve', '--root', str(root), *words))
            assert done.status in (1, 2) and said in done.err and 'Traceback' not in done.err, (words, done.err)

    def test_it_says_an_address_that_a_program_here_can_use(self):
        for host in ('0.0.0.0', '127.0.0.2'):
            with Serving('--host', host, tokens={'one': {'*': 'rw'}} if host == '0.0.0.0' else None) as own:
                url = (own.folder / 'said').read_text().split()[-1]
                assert urllib.parse.urlsplit(url).hostname == host.replace('0.0.0.0', '127.0.0.1')
                with contextlib.closing(Vault(f'{url}/a', token=own.token)) as v:
                    v['a'] = 1
                    assert v['a'] == 1

    @pytest.mark.parametrize('words, said', [
        (['--proxy', 'localhost', '--tokens', 'good'], "'localhost' is neither an address nor a network"),
        (['--proxy', '127.0.0.1:8080', '--tokens', 'good'], "'127.0.0.1:8080' is neither"), (['--proxy', '*', '--tokens', 'good'], "'*' is neither"),
        (['--proxy', '127.0.0.1'], 'the proxy 127.0.0.1/32 would be refused .* --tokens FILE'),
        (['--hostname', 'https://vaults.example.org'], "'https://vaults.example.org' is no name of a host, as example.org is"),
        (['--allow-origin', 'foo'], "'foo' is no origin of pages, as https://example.org"),
        (['--max-stream', '10'], 'streams of at most 10 bytes make no sense .*--max-body.* 10 at most'), (['--max-body', '0'], 'from 1 on, not 0'),
        (['--tokens', 'bad'], "bad: 'bad name' is no name of a vault here: it has letters of ASCII")])
    def test_what_can_never_work_is_said_before_it_listens(self, tmp_path, words, said):
        from .programs import finished, spawn
        for name, vault in (('good', 'books'), ('bad', 'bad name')):
            (tmp_path / name).touch(0o600)
            (tmp_path / name).write_text(json.dumps({'the-token': {vault: 'rw'}}))
        done = finished(spawn('serve', '--root', '.', '--port', '0', *words, cwd=str(tmp_path)))
        assert (done.status, done.out) == (1, '') and re.search(said, done.err) and 'Traceback' not in done.err, done

    @pytest.mark.parametrize('text', ['[]', '{}', '{"a": "rw"}', '{"a": ["rw"]}', '{"a": {"*": "w"}}', '{"a b": {}}', '"', '[1]'])
    def test_a_file_of_tokens_that_is_wrong_is_named_and_what_is_shown_can_be_typed_in(self, tmp_path, text):
        from vaults.server.access import tokens_of
        path = tmp_path / 'tokens'
        path.touch(0o600)
        path.write_text(text)
        with pytest.raises(VaultError) as caught:
            tokens_of(str(path))
        said = str(caught.value)
        assert said.startswith(str(path)) and said.count(str(path)) == 1, said
        for shown in re.findall(r'\{.*\}', said):
            path.write_text(shown if '}}' in shown else f'{{"the-token": {shown}}}')
            assert tokens_of(str(path)).find(b'the-token').rights == {'books': 'r', '*': 'rw'}

    def test_where_the_root_of_a_client_is_a_server_it_serves_nothing(self, serving, monkeypatch):
        from .programs import finished, spawn
        monkeypatch.setenv('VAULTS_ROOT', serving.url)
        monkeypatch.setenv('VAULTS_TOKEN', 'secret')
        done = finished(spawn('serve', '--port', '0'))
        assert (done.status, done.out) == (1, '') and 'served already' in done.err and '--root FOLDER' in done.err, done

    def test_a_root_may_be_said_as_a_url_or_folder_behind_the_command(self, serving, served, tmp_path):
        from .programs import finished, spawn
        done = finished(spawn('list', serving.url))
        assert done.status == 0 and served in done.out.splitlines(), done
        assert finished(spawn('list', str(serving.root))).out == done.out == finished(spawn('list', '--root', serving.url)).out
        assert json.loads(finished(spawn('list', serving.url, '--json')).out) == done.out.splitlines()
        twice = finished(spawn('--root', str(tmp_path), 'list', serving.url))
        assert twice.status == 2 and 'the root is said twice' in twice.err and 'leave one out' in twice.err
        again = finished(spawn('serve', serving.url, '--port', '0'))
        assert again.status == 1 and 'are served already' in again.err, again

    def test_no_answer_waits_for_an_acknowledgement(self):
        from vaults.server.running import bound

        async def is_sent_at_once():
            made, loop = asyncio.get_running_loop().create_future(), asyncio.get_running_loop()

            class Protocol(asyncio.Protocol):
                def connection_made(self, transport):
                    made.set_result(transport.get_extra_info('socket').getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                    transport.close()
            with contextlib.closing(bound('127.0.0.1', 0, False)) as listener:
                server = await loop.create_server(Protocol, sock=listener)
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                await reader.read()
                writer.close()
                server.close()
                await server.wait_closed()
            return await made
        assert asyncio.run(is_sent_at_once())

    def test_limits_can_be_set(self):
        with Serving('--max-body', '1K', '--max-stream', '2K') as own:
            own.ask('PUT', '/v1/vaults/a')
            assert own.ask('PUT', path_to('a', key='k'), msgpack.packb('x' * 2000), Content_Type=STORED_TYPE).status == 413
            assert own.ask('PUT', path_to('a', 'stream', key='k'), b'x' * 3000).status == 413
            assert own.ask('PUT', path_to('a', 'stream', key='k'), iter([b'x' * 1500] * 2)).status == 413
            assert own.ask('PUT', path_to('a', 'stream', key='k'), b'x' * 2000).status == 201
