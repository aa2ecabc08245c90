"""The server against who means it harm, or is only slow: each threat is tried on a real server."""
from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import threading
import time

import msgpack
import pytest

from vaults import Vault, VaultError

from .programs import Planted, finished, spawn
from .server import AS_JSON, STORED_TYPE, ask_directly, path_to
from .servers import processes, wait_for
from .serving import Serving

SECRET, READER, OTHER = 'the-token-of-the-owner', 'a-reader', 'of-another-vault'


def bearer(token):
    return {'Authorization': f'Bearer {token}'}


@pytest.fixture(scope='class')
def strict(serving):
    """A server with tokens, and deadlines of half a second."""
    constants = {'bodies.PATIENCE': .5, 'running.HEADERS_TIME': .5, 'running.READING_TIME': .5, 'running.REST_TIME': .5}
    rights = {SECRET: {'*': 'rw'}, READER: {'*': 'r', 'hidden': ''}, OTHER: {'other': 'rw'}}
    with Serving('--hostname', 'vaults.example', '--allow-origin', 'https://app.example', tokens=rights, constants=constants) as own:
        for name in ('books', 'other', 'hidden'):
            assert own.ask('PUT', f'/v1/vaults/{name}', **bearer(SECRET)).status == 201
        yield own


class TestThreatsByTokens:
    def test_nobody_without_a_token_that_is_known_learns_anything(self, strict):
        paths = ['/v1/vaults', '/v1/vaults/books', '/v1/vaults/nowhere', path_to('books', key='a'), '/metrics', '/nowhere']
        for headers in ({}, bearer(''), bearer('wrong'), bearer(SECRET[:-1]), bearer(SECRET + 'x'), {'Authorization': SECRET},
                        {'Authorization': f'Basic {SECRET}'}, bearer('ä'), bearer('x' * 5000)):
            answers = [strict.ask('GET', path, **headers) for path in paths]
            assert {(answer.status, answer.headers['WWW-Authenticate'], answer.body) for answer in answers} == {
                (401, 'Bearer', answers[0].body)}
        assert strict.ask('GET', '/healthz').status == strict.ask('GET', '/openapi.json').status == 200

    def test_a_token_does_what_it_may(self, strict):
        strict.ask('PUT', path_to('books', key='a'), '1', **AS_JSON, **bearer(SECRET))
        assert strict.ask('GET', path_to('books', key='a'), **bearer(READER)).json() == 1
        assert strict.ask('GET', '/v1/vaults', **bearer(READER)).json()['vaults'] == ['books', 'other']
        assert strict.ask('GET', '/v1/vaults', **bearer(OTHER)).json()['vaults'] == ['other']
        assert strict.ask('GET', '/v1/vaults/books', **bearer(READER)).json()['writable'] is False
        writing = [('PUT', path_to('books', key='a')), ('DELETE', path_to('books', key='a')), ('PUT', path_to('books', 'stream', key='a')),
                   ('PUT', '/v1/vaults/new'), ('DELETE', '/v1/vaults/books')]
        for method, path in writing:
            for token in (READER, OTHER):
                assert strict.ask(method, path, '1', **AS_JSON, **bearer(token)).status == 403
        for name in ('hidden', 'nowhere'):
            assert strict.ask('GET', f'/v1/vaults/{name}', **bearer(OTHER)).status == 403  # whether it is there or not
        ops = msgpack.packb([None, 'k', [['put', 'a', b'\x02']]])
        refused = strict.ask('POST', '/v1/vaults/books/ops', ops, Content_Type=STORED_TYPE, **bearer(READER))
        assert refused.status == 403 and strict.ask('GET', path_to('books', key='a'), **bearer(SECRET)).json() == 1
        assert strict.ask('POST', '/v1/vaults/books/ops', ops, Content_Type=STORED_TYPE, **bearer(OTHER)).status == 403

    def test_a_token_is_compared_with_all_that_there_are(self, monkeypatch):
        from vaults.server import access
        compared = []
        monkeypatch.setattr(access, 'compare_digest', lambda *both: compared.append(both) or both[0] == both[1])
        tokens = access.Tokens({f'token{number}': {'*': 'r'} for number in range(5)})
        for token, found in ((b'token0', True), (b'token4', True), (b'x', False), (b'', False)):
            compared.clear()
            assert (tokens.find(token) is not None) == found
            assert len(compared) == 5 and {len(side) for both in compared for side in both} == {32}
        assert 'token0' not in repr(vars(tokens))

    def test_a_file_may_have_hashes_in_place_of_tokens_and_is_read_again(self):
        import hashlib
        hashed = 'sha256:' + hashlib.sha256(SECRET.encode()).hexdigest()
        with Serving(tokens={hashed: {'*': 'rw'}}) as own:
            assert own.ask('PUT', '/v1/vaults/a', **bearer(SECRET)).status == 201
            assert own.ask('GET', '/v1/vaults/a', **bearer(hashed)).status == 401
            own.grant({'another': {'a': 'r'}})
            assert own.ask('GET', '/v1/vaults/a', **bearer(SECRET)).status == 401
            assert own.ask('GET', '/v1/vaults/a', **bearer('another')).status == 200
            own.grant({'another': {'a': 'everything'}})  # no right: what was read before holds
            assert own.ask('GET', '/v1/vaults/a', **bearer('another')).status == 200
            (own.folder / 'tokens').write_text('{"third": {"a": "r"}}')
            (own.folder / 'tokens').chmod(0o644)         # which others may read now
            assert own.ask('GET', '/v1/vaults/a', **bearer('third')).status == 401
            assert any('what was read before holds' in line.get('message', '') for line in own.log)

    @pytest.mark.parametrize('tokens', [{}, [], {'a b': {}}, {'': {}}, {'sha256:12': {}}, {1: {}}, {'a': 'rw'}, {'a': {'*': 'w'}}, {'a': {1: 'r'}}])
    def test_tokens_that_make_no_sense_are_refused(self, root, tokens):
        from vaults.server import app
        with pytest.raises(VaultError):
            app(root, tokens)

    def test_a_key_of_another_token_is_another_key(self, strict):
        path = path_to('other', key='a')
        first = strict.ask('PUT', path, '1', **AS_JSON, **bearer(SECRET), Idempotency_Key='k')
        second = strict.ask('PUT', path, '2', **AS_JSON, **bearer(OTHER), Idempotency_Key='k')
        assert (first.status, second.status) == (201, 204)


class TestThreatsByAddress:
    def test_without_tokens_no_address_but_this_machines_is_listened_at(self, root):
        for host in ('0.0.0.0', '::'):
            done = finished(spawn('serve', '--root', str(root), '--host', host, '--port', '0'))
            assert done.status == 1 and 'without tokens only this machine is served' in done.err

    @pytest.mark.parametrize('client, tokens, status', [
        (('127.0.0.1', 1), None, 200), (('127.8.0.1', 1), None, 200), (('::1', 1), None, 200), (('::ffff:127.0.0.1', 1), None, 200), (None, None, 200),
        (('10.0.0.1', 1), None, 403), (('::ffff:10.0.0.1', 1), None, 403), (('fe80::1%eth0', 1), None, 403), (('elsewhere', 1), None, 403),
        (('10.0.0.1', 1), {SECRET: {}}, 200)])
    def test_without_tokens_whoever_mounts_it_serves_this_machine_alone(self, root, client, tokens, status):
        from vaults.server import app
        assert asked_by(app(root, tokens), client) == status

    def test_the_addresses_that_may_ask_change_while_it_runs(self, tmp_path):
        allow = tmp_path / 'allow'
        allow.write_text('127.0.0.0/8  # this machine\n::1\n')
        with Serving('--allow', str(allow)) as own:
            assert own.ask('GET', '/v1/vaults').status == 200
            allow.write_text('10.0.0.0/8\n')
            assert own.ask('GET', '/v1/vaults').status == own.ask('GET', '/healthz').status == 403
            allow.write_text('this is no network\n')
            assert own.ask('GET', '/v1/vaults').status == 403  # what was read before holds
            allow.write_text('10.0.0.0/8\n127.0.0.1\n')
            assert own.ask('GET', '/v1/vaults').status == 200
            allow.unlink()
            assert own.ask('GET', '/v1/vaults').status == 200
            assert any('is neither an address nor a network' in line.get('message', '') for line in own.log)

    @pytest.mark.parametrize('allow', [['192.168.0.0/16', 'fe80::/10'], lambda address: address.startswith(('192.168.', 'fe80:'))])
    def test_an_application_is_told_who_may_ask(self, root, allow):
        from vaults.server import app
        application = app(root, {SECRET: {}}, allow=allow)
        assert asked_by(application, ('192.168.7.7', 1)) == asked_by(application, ('fe80::7', 1)) == 200
        assert asked_by(application, ('192.169.0.1', 1)) == asked_by(application, None) == 403

    def test_a_proxy_is_believed_where_it_is_named(self):
        headers = {'X_Forwarded_For': '10.1.1.1', **bearer(SECRET)}
        for words, client in (([], '127.0.0.1'), (['--proxy', '127.0.0.1'], '10.1.1.1'),  # anybody can send such a header
                              (['--proxy', '127.9.9.9/8'], '10.1.1.1'), (['--proxy', '127.0.0.1', '--host', '::'], '10.1.1.1')):
            with Serving(*words, tokens={SECRET: {'*': 'rw'}}) as own:
                assert own.ask('GET', '/v1/vaults', **headers).status == 200
                wait_for(lambda own=own, client=client: [line['client'] for line in own.log] == [client])

    @pytest.mark.parametrize('name', ['X_Forwarded_For', 'X_Forwarded_Host', 'X_Real_IP', 'Forwarded', 'Via'])
    def test_behind_a_proxy_nobody_is_served_without_a_token(self, serving, name):
        # To the server all of the proxy's clients are this machine.
        assert serving.ask('GET', '/v1/vaults', **{name: 'for=10.1.1.1'}).status == 403


def asked_by(application, client):
    """Return the status that an ASGI application answers to a client at an address."""
    return ask_directly(application, 'GET', '/healthz', client=client)[0]


class TestThreatsByBrowsers:
    @pytest.mark.parametrize('host, status', [
        ('localhost', 200), ('LOCALHOST:8642', 200), ('127.0.0.1', 200), ('[::1]:1', 200), ('127.0.0.2:1', 200), ('vaults.example', 200), ('Vaults.Example:443', 200),
        ('evil.example', 421), ('localhost.evil.example', 421), ('vaults.example.', 421), ('127.0.0.1.evil.example', 421), ('', 421),
        ('localhost@evil.example', 421), ('evil.example:localhost', 421), ('[::1', 421)])
    def test_a_name_that_is_not_ours_is_not_answered(self, strict, host, status):
        # A page of evil.example has its name lead to 127.0.0.1: to the browser it asks its own site.
        answer = strict.raw(f'GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n'.encode())
        assert answer.startswith(f'HTTP/1.1 {status} '.encode())

    def test_a_request_without_a_host_or_with_two_is_not_answered(self, strict):
        for lines in ('', 'Host: localhost\r\nHost: localhost\r\n'):
            answer = strict.raw(f'GET /healthz HTTP/1.1\r\n{lines}Connection: close\r\n\r\n'.encode())
            assert answer[9:12] in (b'400', b'421')

    @pytest.mark.parametrize('headers, status', [
        ({'Origin': 'https://evil.example'}, 403), ({'Origin': 'null'}, 403), ({'Origin': ''}, 403), ({'Origin': 'https://app.example'}, 200),
        ({'Origin': 'https://app.example.evil'}, 403), ({'Origin': 'http://app.example'}, 403), ({'Sec_Fetch_Site': 'cross-site'}, 403),
        ({'Sec_Fetch_Site': 'same-site'}, 403), ({'Sec_Fetch_Site': 'none'}, 200), ({'Sec_Fetch_Site': 'same-origin'}, 200)])
    def test_pages_of_other_sites_are_not_answered(self, strict, headers, status):
        answer = strict.ask('GET', path_to('books', 'entries'), **bearer(SECRET), **headers)
        assert answer.status == status and not [name for name in answer.headers if name.lower().startswith('access-control')]

    def test_no_preflight_is_answered(self, strict):
        answer = strict.ask('OPTIONS', path_to('books', key='a'), Origin='https://evil.example', Access_Control_Request_Method='PUT')
        assert answer.status == 403 and not answer.headers['Access-Control-Allow-Origin']

    def test_no_browser_guesses_what_an_answer_is(self, strict):
        strict.ask('PUT', path_to('books', 'stream', key='page'), b'<script>alert(1)</script>', **bearer(SECRET), Content_Type='text/html')
        answer = strict.ask('GET', path_to('books', 'stream', key='page'), **bearer(SECRET))
        assert answer.headers['Content-Type'] == 'application/octet-stream' and answer.headers['X-Content-Type-Options'] == 'nosniff'
        assert answer.headers['Cross-Origin-Resource-Policy'] == 'same-origin'


class TestThreatsByNames:
    PATHS = ['..', '%2e%2e', '..%2f..%2fetc%2fpasswd', '%2fetc%2fpasswd', 'a%2f..%2fb', 'a%5cb', 'a%00', '.hidden', 'a.db', '~root', '$HOME',
             'a%0d%0aX:1', 'json+file:%2f%2f%2ftmp', ':memory:', 'con.', '%ff', '%c3%a4', 'a' * 300, '-rf', '']

    @pytest.mark.parametrize('method', ['GET', 'PUT', 'DELETE'])
    def test_no_name_is_a_path(self, strict, method):
        before = sorted(path.relative_to(strict.folder) for path in strict.folder.rglob('*') if '.db-' not in path.name)
        for name in self.PATHS:
            for rest in ('', '/entry?key=a', '/stream?key=a', '/entries'):
                answer = strict.raw(f'{method} /v1/vaults/{name}{rest} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\n'
                                     'Content-Length: 0\r\nConnection: close\r\n\r\n'.encode())
                assert answer[9:12] in (b'400', b'404', b'405', b'415'), (name, rest, answer[:80])
        assert before == sorted(path.relative_to(strict.folder) for path in strict.folder.rglob('*') if '.db-' not in path.name)

    def test_no_link_is_followed(self, serving, served, tmp_path):
        tmp_path = tmp_path / 'elsewhere'
        tmp_path.mkdir()
        with contextlib.closing(Vault(tmp_path / 'secret.db')) as v:
            v['a'] = 1
        folder, name = serving.root / 'vaults', serving.name()
        (folder / f'{name}.db').symlink_to(tmp_path / 'secret.db')
        dangling = serving.name()
        (folder / f'{dangling}.db').symlink_to(tmp_path / 'made.db')
        for link in (name, dangling):
            for method, path in (('GET', path_to(link, key='a')), ('PUT', f'/v1/vaults/{link}'), ('DELETE', f'/v1/vaults/{link}')):
                assert serving.ask(method, path).status == 404
            assert link not in serving.ask('GET', '/v1/vaults').json()['vaults']
        assert sorted(path.name for path in tmp_path.iterdir()) == ['secret.db']


class TestThreatsByBodies:
    @pytest.mark.parametrize('text', ['[' * 100_000, '{"a":' * 100_000, '[' * 5_000 + ']' * 5_000, '9' * 1_000_000, '-' + '9' * 5000, '1e999999', 'NaN',
                                      '-Infinity', '"\\ud800"', '{"\\udfff": 1}', '["\\ud800\\ud800"]', '{"!int": "0x' + 'f' * 500_000 + '"', '\ufeff1', '01'],
                             ids=lambda text: text[:12])
    def test_json_that_does_harm_is_refused(self, serving, served, text):
        assert serving.ask('PUT', path_to(served, key='a'), text.encode('utf-8', 'surrogatepass'), **AS_JSON).status in (400, 201, 204)
        if not text.startswith('[' * 5_000 + ']'):
            assert serving.ask('GET', path_to(served, key='a')).status == 404
        if len(text) < 20_000:
            assert serving.ask('GET', path_to(served, json=text)).status == 400

    def test_a_value_that_grows_when_it_is_made_an_object_is_not_made_one(self):
        if not processes():
            pytest.skip('peaks are read in /proc')
        with Serving() as own:
            own.ask('PUT', '/v1/vaults/a')
            before, count = own.peak(), 24 << 20
            bomb = b'\xdd' + struct.pack('>I', count) + b'\x90' * count  # lists in a list, which take 64 bytes each
            assert own.ask('PUT', path_to('a', key='bomb'), bomb, Content_Type=STORED_TYPE).status == 201
            assert own.ask('GET', path_to('a', key='bomb')).status == 406
            assert own.ask('GET', path_to('a', 'entries')).json()['entries'][0]['bytes'] == len(bomb)
            refused = own.ask('POST', '/v1/vaults/a/ops', bomb, Content_Type=STORED_TYPE)
            assert refused.status == 400
            assert own.peak() - before < 12 * len(bomb)

    @pytest.mark.parametrize('body', [b'\xdd\xff\xff\xff\xff', b'\xdf\xff\xff\xff\xff\x01', b'\xc6\xff\xff\xff\xffx', b'\x91' * 100_000,
                                      b'\xc9\x00\x00\x00\x05\x05' * 30, b'\x91' * 100_000 + b'\x90', b''])
    def test_bytes_that_claim_to_be_more_are_refused(self, serving, served, body):
        assert serving.ask('POST', f'/v1/vaults/{served}/ops', body, Content_Type=STORED_TYPE).status == 400
        status = serving.ask('PUT', path_to(served, key='a'), body, Content_Type=STORED_TYPE).status
        assert status == 400 or (status == 201 and body.endswith(b'\x90'))  # which is a list, as deep as msgpack goes

    @pytest.mark.parametrize('key', [b'', b'\xff', b'\xffp' + bytes(20), b'\x02a', float('nan'), 2**63, None, [], b'\x09\x02a'], ids=repr)
    def test_a_key_that_no_vault_stores_does_not_reach_the_engine(self, serving, served, key):
        body = msgpack.packb([None, 'one', [['put', key, b'\x01']]])
        assert serving.ask('POST', f'/v1/vaults/{served}/ops', body, Content_Type=STORED_TYPE).status == 400
        with contextlib.closing(Vault(serving.root / 'vaults' / f'{served}.db')) as v:
            v._check()
            assert not v

    def test_no_pickle_is_run_or_taken_from_json(self, serving, served, tmp_path):
        import pickle
        mark = tmp_path / 'made'
        packed = msgpack.packb(msgpack.ExtType(1, pickle.dumps(Planted(mark))))
        assert serving.ask('PUT', path_to(served, key='a'), packed, Content_Type=STORED_TYPE).status == 201  # to the server they are bytes
        form = serving.ask('GET', path_to(served, key='a'))
        assert list(form.json()) == ['!pickle'] and serving.ask('PUT', path_to(served, key='b'), form.body, **AS_JSON).status == 400
        assert serving.ask('PUT', path_to(served, key='b'), json.dumps([form.json()]), **AS_JSON).status == 400
        for path in (path_to(served, 'entries'), path_to(served, 'stream', key='a'), f'/v1/vaults/{served}'):
            serving.ask('GET', path)
        assert serving.ask('POST', f'/v1/vaults/{served}/ops', msgpack.packb([None, None, [['check']]]), Content_Type=STORED_TYPE).status == 200
        assert not mark.exists()

    def test_a_body_that_is_too_large_is_refused_by_its_header(self, strict):
        for kind, path in ((STORED_TYPE, path_to('books', key='a')), ('application/json', path_to('books', key='a')), (STORED_TYPE, '/v1/vaults/books/ops')):
            method = 'POST' if path.endswith('ops') else 'PUT'
            answer = strict.raw(f'{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\nContent-Type: {kind}\r\n'
                                 'Content-Length: 99999999999\r\n\r\n'.encode())
            assert answer.startswith(b'HTTP/1.1 413 ') and answer.count(b'HTTP/1.1 ') == 1  # and then it is closed

    def test_a_body_that_is_too_large_is_refused_while_it_comes(self):
        with Serving('--max-body', '1M') as own:
            own.ask('PUT', '/v1/vaults/a')
            head = (f'PUT {path_to("a", key="k")} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {STORED_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n').encode()
            piece = b'10000\r\n' + bytes(1 << 16) + b'\r\n'
            assert own.raw(head, *[piece] * 40).startswith(b'HTTP/1.1 413 ')
            assert own.ask('GET', path_to('a', key='k')).status == 404

    @pytest.mark.parametrize('lines', [
        'Content-Length: 5\r\nContent-Length: 6', 'Content-Length: 5\r\nTransfer-Encoding: chunked', 'Transfer-Encoding: chunked, identity',
        'Content-Length: -1', 'Content-Length: 5x', 'Content-Length : 5', 'Transfer-Encoding: xchunked', 'X: a\r\n b: c\0'])
    def test_a_request_that_two_programs_read_in_two_ways_is_refused(self, serving, served, lines):
        hidden = f'GET {path_to(served, key="smuggled")} HTTP/1.1\r\nHost: localhost\r\n\r\n'
        answer = serving.raw(f'PUT {path_to(served, key="a")} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n{lines}'
                             f'\r\n\r\n0\r\n\r\n{hidden}'.encode())
        assert answer.count(b'HTTP/1.1 ') <= 1 and not answer.startswith(b'HTTP/1.1 2')


class TestThreatsByWaiting:
    def test_a_body_that_stops_is_not_waited_for(self, strict):
        for kind, path in (('application/json', path_to('books', key='a')), ('x/y', path_to('books', 'stream', key='s'))):
            answer = strict.raw(f'PUT {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\nContent-Type: {kind}\r\n'
                                 'Content-Length: 10\r\n\r\n[1,'.encode())
            assert answer.startswith(b'HTTP/1.1 408 ')
            assert strict.ask('GET', path, **bearer(SECRET)).status == 404

    def test_a_body_that_drips_is_not_waited_for(self, strict):
        head = (f'PUT {path_to("books", key="d")} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\nContent-Type: application/json\r\n'
                'Content-Length: 1000\r\n\r\n').encode()
        assert dripped(strict, head).startswith(b'HTTP/1.1 408 ')

    def test_headers_that_drip_or_do_not_come_are_not_waited_for(self, strict):
        assert strict.raw().startswith(b'HTTP/1.1 408 ')
        assert strict.raw(b'GET /healthz HTTP/1.1\r\nHost: local').startswith(b'HTTP/1.1 408 ')
        assert dripped(strict, b'GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ').startswith(b'HTTP/1.1 408 ')
        first = b'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n'
        answer = strict.raw(first + b'GET /heal')  # the second one of a connection
        assert answer.startswith(b'HTTP/1.1 200 ') and b'HTTP/1.1 408 ' in answer

    def test_headers_without_an_end_are_not_taken(self, strict):
        for line in (b'X: ' + b'x' * (1 << 16), b''.join(b'X%d: x\r\n' % number for number in range(20_000)), b'a' * (1 << 17)):
            answer = strict.raw(b'GET /healthz HTTP/1.1\r\nHost: localhost\r\n', *[line] * 8)
            assert answer.startswith((b'HTTP/1.1 431 ', b'HTTP/1.1 400 ')) or not answer
        assert strict.ask('GET', '/healthz').status == 200

    def test_the_rest_of_a_request_that_was_answered_is_not_waited_for(self, strict):
        for lines in ('', f'Authorization: Bearer {SECRET}\r\n'):
            head = f'PUT {path_to("nowhere", key="a")} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Type: x/y\r\nContent-Length: 9000\r\n\r\n'.encode()
            assert dripped(strict, head)[9:12] in (b'401', b'415')

    def test_who_reads_nothing_is_left(self, strict):
        strict.ask('PUT', path_to('books', 'stream', key='large'), os.urandom(1 << 24), **bearer(SECRET))
        with contextlib.closing(socket.socket()) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
            slow.connect(('127.0.0.1', strict.port))
            slow.sendall(f'GET {path_to("books", "stream", key="large")} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\n\r\n'.encode())
            wait_for(lambda: strict.metric('vaults_requests_running') == 1)

    def test_a_client_that_goes_while_it_is_answered_leaves_nothing_behind(self, strict):
        strict.ask('PUT', path_to('books', 'stream', key='large'), os.urandom(1 << 24), **bearer(SECRET))
        for _ in range(5):
            with contextlib.closing(socket.create_connection(('127.0.0.1', strict.port))) as client:
                client.sendall(f'GET {path_to("books", "stream", key="large")} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\n\r\n'.encode())
                client.recv(1 << 16)
        wait_for(lambda: strict.metric('vaults_requests_running') == 1)
        assert not [line for line in strict.log if 'trace' in line]

    def test_a_block_that_is_left_open_is_rolled_back(self):
        with Serving(constants={'leases.IDLE_BLOCK': .3}) as own:
            own.ask('PUT', '/v1/vaults/a')
            block = os.urandom(16)
            body = msgpack.packb([block, None, [['begin'], ['put', 'lost', b'\x01']]])
            assert own.ask('POST', '/v1/vaults/a/ops', body, Content_Type=STORED_TYPE).status == 200
            assert own.metric('vaults_open_leases') == 1
            wait_for(lambda: own.metric('vaults_open_leases') == 0)
            assert own.ask('GET', path_to('a', key='lost')).status == 404
            assert own.ask('PUT', path_to('a', key='new'), '1', **AS_JSON).status == 201

    def test_who_may_only_read_keeps_no_writer_out_by_asking(self):
        with Serving(tokens={'one': {'*': 'rw'}, 'two': {'*': 'r'}}, constants={'leases.IDLE_BLOCK': 1.0}) as own, \
                contextlib.closing(Vault(own.url_of('a'), token='one')) as v, \
                contextlib.closing(Vault(own.url_of('a'), token='two', flag='r')) as reader:
            v['a'] = 1

            def ask(vault, seconds):
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    assert vault['a'] == 1
            with v:
                ask(v, 2.5)             # who may write goes on
                v['b'] = 1
            with pytest.raises(VaultError, match='may only read .* 1 second.* rolled back'), reader:
                ask(reader, 1e-9)
                writer = threading.Thread(target=v.put, args=('a', 1))
                writer.start()
                ask(reader, 20)
            writer.join()
            assert v.items() == [('a', 1), ('b', 1)] == reader.items()
            with reader:
                assert reader['b'] == 1

    def test_a_request_behind_another_one_does_not_break_its_answer(self, strict):
        strict.ask('PUT', path_to('books', 'stream', key='large'), os.urandom(1 << 22), **bearer(SECRET))
        request = f'GET {path_to("books", "stream", key="large")} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\n\r\n'.encode()
        with contextlib.closing(socket.create_connection(('127.0.0.1', strict.port), timeout=30)) as client:
            client.sendall(request + b'GET /heal')  # its deadline passes while the first one is answered
            found = b''
            for piece in iter(lambda: client.recv(1 << 16), b''):
                found += piece
        head, _, rest = found.partition(b'\r\n\r\n')
        assert head.startswith(b'HTTP/1.1 200 ') and rest[1 << 22:].startswith(b'HTTP/1.1 408 ') and b'HTTP/1.1' not in rest[:1 << 22]

    def test_so_many_connections_are_taken_and_no_more(self):
        with Serving(constants={'running.MOST_CONNECTIONS': 8}) as own, contextlib.ExitStack() as stack:
            held = [stack.enter_context(contextlib.closing(socket.create_connection(('127.0.0.1', own.port)))) for _ in range(12)]
            wait_for(lambda: own.ask('GET', '/healthz').status == 503)
            for connection in held:
                connection.close()
            wait_for(lambda: own.ask('GET', '/healthz').status == 200)

    def test_a_request_that_does_not_come_does_not_keep_the_server_from_its_end(self, serving):
        with Serving() as own, contextlib.closing(socket.create_connection(('127.0.0.1', own.port))) as client:
            client.sendall(b'GET /healthz HTTP/1.1\r\nHost: localhost\r\n')
            own.signal(signal.SIGTERM)
            assert own.wait() == -signal.SIGTERM


def dripped(serving, head):
    """Send a head and then a byte at a time, as long as somebody listens; return what came back."""
    with contextlib.closing(socket.create_connection(('127.0.0.1', serving.port), timeout=.05)) as client:
        client.sendall(head)
        found = b''
        while True:
            try:
                piece = client.recv(65536)
                found += piece
                if not piece:
                    return found
            except socket.timeout:
                with contextlib.suppress(ConnectionError):
                    client.sendall(b' ')
            except ConnectionError:
                return found
