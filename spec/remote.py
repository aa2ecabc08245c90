"""A vault on another machine: the contract over a real server, what is asked again, and what is never done twice."""
from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import http.server
import logging
import pickle
import socketserver
import ssl
import threading
import tracemalloc

import pytest
from msgpack import packb

import vaults
from spec import engines
from spec.helpers import crowd, in_few_examples, output
from spec.moving_copy import as_stored, fill_with_all
from spec.samples import Custom
from spec.servers import MissingServerError
from spec.serving import Serving, serving, shared_serving  # noqa: F401  # a fixture
from vaults import Vault, stores
from vaults.aio import AsyncVault
from vaults.server.idempotency import RESERVED
from vaults.stores.base import Options
from vaults.stores.http.address import ServerAddress
from vaults.stores.http.asking import RefusedVerb
from vaults.stores.http.connecting import LostAnswerError, pool_of
from vaults.stores.http.opening import open_served
from vaults.stores.http.wire import WIRE_TYPE, unpacked_request
from vaults.testing import StoreConformance
from vaults.testing.oracle import OPERATIONS


class TestRemoteConformance(StoreConformance):
    """A vault on a server meets the contract."""

    test_every_operation_does_what_the_oracle_does = in_few_examples(
        StoreConformance.test_every_operation_does_what_the_oracle_does, operations=OPERATIONS)

    @pytest.fixture(autouse=True)
    def served(self, serving):  # noqa: F811  # the fixture
        self.url = serving.url

    def make_store(self, folder):
        return open_served(f'{self.url}/{hashlib.md5(str(folder).encode()).hexdigest()}', Options())


class Between:
    """What stands between a client and a server, and may keep an answer back: `meddle(request line)` tells whether it does."""

    def __init__(self, port):
        self.meddle, self.lines = lambda line: False, []
        between = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
                with contextlib.closing(http.client.HTTPConnection('127.0.0.1', port, timeout=30)) as connection:
                    try:
                        connection.request(self.command, self.path, body, {**dict(self.headers), 'Host': '127.0.0.1'})
                        answer = connection.getresponse()
                        data = answer.read()
                    except OSError:
                        self.close_connection = True
                        return
                between.lines.append(body)
                if between.meddle(body):
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name in ('Content-Type',):
                    self.send_header(name, answer.headers.get(name, 'text/plain'))
                self.send_header('Content-Length', str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_PUT = do_DELETE = do_GET = do_POST

            def log_message(self, *_):
                """Say nothing."""
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval': .02}, daemon=True)
        self.thread.start()
        self.url = f'http://127.0.0.1:{self.server.server_port}'

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Answering(Between):
    """A server of something else: gives one answer to everything."""

    def __init__(self, status, kind='text/html', body=b'', **headers):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get('Content-Length', 0)))
                self.send_response(status)
                for name, value in {'Content-Type': kind, 'Content-Length': str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_GET = do_POST

            def log_message(self, *_):
                """Say nothing."""
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval': .02}, daemon=True)
        self.thread.start()
        self.url = f'http://127.0.0.1:{self.server.server_port}'


@contextlib.contextmanager
def saying(answer):
    """Give the URL of a vault where each connection gets these bytes, and its end."""
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(1 << 16)
            self.request.sendall(answer)
    with socketserver.ThreadingTCPServer(('127.0.0.1', 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': .02}, daemon=True)
        thread.start()
        try:
            yield f'http://127.0.0.1:{server.server_address[1]}/x'
        finally:
            server.shutdown()
            thread.join()


def lose(count, *words):
    """Return what keeps the next `count` answers back to requests that hold one of the words."""
    left = [count]

    def meddle(body):
        if left[0] and any(word in body for word in words):
            left[0] -= 1
            return True
        return False
    return meddle


class TestAskedAgain:
    """What was not answered is asked again, and nothing is done twice."""

    def test_a_write_whose_answer_is_lost_is_done_once(self, serving):  # noqa: F811  # the fixture
        with Between(serving.port) as between, contextlib.closing(Vault(f'{between.url}/{serving.name()}')) as v:
            v.update(a=1, b=2, n=0)
            for change in (lambda: v._store.delete('a'), lambda: v._store.move('b'), lambda: v.pop('b') == 2):
                between.meddle = lose(2, b'delete', b'move', b'commit')
                assert change() is True
            for _ in range(3):
                between.meddle = lose(1, b'commit')
                with v:
                    v['n'] += 1
            assert v.items() == [('n', 3)]

    def test_what_is_sent_in_a_block_is_done_once_there(self, serving):  # noqa: F811
        with Between(serving.port) as between, contextlib.closing(Vault(f'{between.url}/{serving.name()}')) as v:
            v.update(dict.fromkeys('abc', 0))
            with v:
                for key in 'abc':
                    between.meddle = lose(1, b'delete')
                    assert v._store.delete(key) is True
                with v:
                    between.meddle = lose(1, b'nest')
                    v['d'] = len(v)
            assert v.items() == [('d', 0)]

    def test_a_server_that_is_killed_between_commit_and_answer_has_done_it_once(self):
        with Serving() as own, Between(own.port) as between, \
                contextlib.closing(Vault(f'{between.url}/counted', timeout=30)) as v:
            v['n'] = 0
            was_lost = lose(1, b'commit', b'put')

            def kill(body):
                lost = was_lost(body)
                if lost:
                    own.kill()  # it has committed: its answer was here
                    own.start()
                return lost
            for _ in range(2):
                was_lost, between.meddle = lose(1, b'commit'), kill
                with v:
                    v['n'] += 1
            was_lost = lose(1, b'put')
            v['m'] = 1
            assert v.items() == [('n', 2), ('m', 1)] and v.check() == []

    @pytest.mark.parametrize('ends', [b'Content-Length: 4\r\n\r\nbody', b'Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n'])
    def test_an_answer_that_is_cut_behind_any_byte_is_none(self, ends):
        answer = b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n' + ends
        for said in range(len(answer) + 1):
            with saying(answer[:said]) as url:
                pool = pool_of(ServerAddress(url), 5)
                wire = pool.take()
                if said < (len(answer) - len(b'\r\n\r\n') if ends.endswith(b'0\r\n\r\n') else len(answer)):
                    with pytest.raises(LostAnswerError):
                        wire.ask('GET', '/', b'', {}, 5)
                else:
                    assert wire.ask('GET', '/', b'', {}, 5)[::3] == (200, b'body')
                wire.close()
                pool.close()

    def test_where_the_server_stays_away_it_is_said_what_may_have_been_done(self):
        with Serving() as own, Between(own.port) as between, \
                contextlib.closing(Vault(f'{between.url}/x', timeout=.5)) as v, contextlib.closing(Vault(own.url_of('x'), timeout=.5)) as direct:
            v['a'] = 1
            between.meddle = lambda body: True
            with pytest.raises(vaults.VaultUnsureError, match='may have been done'):
                v['a'] = 2
            with pytest.raises(vaults.VaultUnreachableError):
                v['a']
            own.kill()
            with pytest.raises(vaults.VaultUnreachableError, match='see that the server runs'):
                direct['a'] = 3
            own.start()
            between.meddle = lambda body: False
            assert direct['a'] == v['a'] == 2

    def test_a_walk_outlives_a_restarted_server(self):
        with Serving() as own, contextlib.closing(Vault(own.url_of('walked'), timeout=20)) as v:
            v.update((n, str(n)) for n in range(5000))
            walk = iter(v.items())
            seen = [next(walk) for _ in range(10)]
            own.kill()
            own.start()
            assert [*seen, *walk] == [(n, str(n)) for n in range(5000)]


def requests_of(between, act):
    """Return what `act` does, and how many requests that takes."""
    before = len(between.lines)
    return act(), len(between.lines) - before


def meanwhile(word, changes):
    """Return what makes one change after the other, each when a request outside of a block with the word was done."""
    left = iter(changes)

    def meddle(body):
        if word in body and b'begin' not in body:
            next(left, int)()
        return False
    return meddle


class TestReadAndWrittenAtOnce:
    """What reads and writes at once takes as few requests as can be, is done once, and by one client."""

    @pytest.fixture
    def between(self, serving):  # noqa: F811
        with Between(serving.port) as between:
            yield between

    @pytest.fixture
    def v(self, between, serving):  # noqa: F811
        with contextlib.closing(Vault(f'{between.url}/{serving.name()}')) as v:
            yield v

    @pytest.fixture
    def other(self, v, serving):  # noqa: F811
        with contextlib.closing(Vault(serving.url_of(v.name.rpartition('/')[2]))) as other:
            yield other

    def test_each_takes_as_many_requests_as_the_page_says(self, between, v):
        given, section = [], v.section('of')
        v.update(none=None, zero=0)
        v.list('list').append(1)
        for act, result, requests in (
                (lambda: v.setdefault('given', given), given, 1), (lambda: v.setdefault('given', 5), [], 1),
                (lambda: v.setdefault('none', 5), None, 1), (lambda: v.setdefault('nothing'), None, 1),
                (lambda: section.setdefault('a', 1), 1, 1), (lambda: section.setdefault('a', 2), 1, 1),
                (lambda: type(v.setdefault('list', 5)), vaults.List, 1),
                (lambda: v.pop('given'), [], 2), (lambda: v.pop('none', 5), None, 2), (lambda: v.pop('nothing'), None, 2),
                (lambda: v.pop('nothing', 5), 5, 1), (lambda: v.pop('nothing', None), None, 1), (lambda: v.pop(object, 5), 5, 1),
                (lambda: section.pop('a'), 1, 2), (lambda: v.pop('zero'), 0, 2)):
            assert requests_of(between, act) == (result, requests)
        assert v.setdefault('given', given) is given  # as that of a dict
        with pytest.raises(KeyError):
            v.pop('nothing')
        assert v.pop('list') == [1] and v == {'given': []} and v.check() == [] and list(v._store.chunk_owners()) == []

    def test_in_a_block_they_are_part_of_it(self, between, v):
        v['old'] = 1

        def block():
            with v:
                return v.setdefault('new', 2), v.setdefault('old', 3), v.pop('old')
        assert requests_of(between, block) == ((2, 1, 1), 5) and v == {'new': 2}
        with pytest.raises(ZeroDivisionError), v:
            assert v.setdefault('undone', 1) == 1 and v.pop('new') == 2 and v == {'undone': 1}
            1 / 0
        assert v == {'new': 2}

    def test_a_hit_writes_nothing_and_waits_for_nobody(self, v, other, serving):  # noqa: F811
        with contextlib.closing(Vault(serving.root / 'vaults' / f"{v.name.rpartition('/')[2]}.db")) as there:
            def kept():
                return [(owner, *there._store.chunk_numbers(owner)) for owner in there._store.chunk_owners()]
            v['a'] = 1
            before = kept()
            with v:
                v['b'] = len(v)  # now it has the writer
                assert other.setdefault('a', 2) == 1
            after = kept()
            assert len(after[0]) == len(before[0]) + 1 and other.setdefault('b', 2) == 1 and kept() == after

    def test_what_is_asked_again_is_done_once_and_answered_as_it_was(self, between, v):
        for number in range(3):
            given = [number]
            between.meddle = lose(2, b'put_new')
            assert v.setdefault('a', given) is given
            between.meddle = lose(2, b'put_new')
            assert v.setdefault('a', 5) == given
            between.meddle = lose(2, b'delete_if')
            assert v.pop('a') == given
            between.meddle = lose(1, b'get')
            assert v.pop('a', 'none') == 'none'
        with v:
            v['b'] = 2
            between.meddle = lose(1, b'delete_if')
            assert v.pop('b') == 2 and v.setdefault('c', 3) == 3
        assert v == {'c': 3}

    def test_what_others_put_since_is_left_alone_where_it_is_asked_again(self, between, v, other):
        def changed_and_lost(word):
            lost = lose(1, word)

            def meddle(body):
                if lost(body):
                    other['a'] = word
                    return True
                return False
            return meddle
        between.meddle = changed_and_lost(b'put_new')
        assert v.setdefault('a', 'mine') == 'mine' and v['a'] == b'put_new'
        between.meddle = changed_and_lost(b'delete_if')
        assert v.pop('a') == b'put_new' and v['a'] == b'delete_if'

    def test_what_others_have_changed_meanwhile_is_popped_as_it_is_then(self, between, v, other):
        v['a'] = 0
        between.meddle = meanwhile(b'get', [lambda: other.put('a', 1), lambda: [other.list('b').append(2), other.put('a', other.list('b'))]])
        assert v.pop('a') == [2] and v.keys() == ['b']
        between.meddle = meanwhile(b'get', [other.clear])
        v['a'] = 1
        assert v.pop('a', 'none') == 'none'
        v['a'] = 0
        between.meddle = meanwhile(b'get', [lambda number=number: other.put('a', number) for number in range(1, 100)])
        assert 1 < v.pop('a') < 20 and v == {}  # at last it keeps others out

    def test_of_many_clients_one_has_each_value_and_one_sets_each_default(self, serving):  # noqa: F811
        url, taken, given = serving.url_of(serving.name()), [], []
        with contextlib.closing(Vault(url, timeout=60)) as v:
            v.update((key, 0) for key in range(5))

            def race():
                with contextlib.closing(Vault(url, timeout=60)) as own:
                    for key in range(20):
                        mine = [threading.get_ident(), key]
                        found = own.setdefault(('set', key), mine)
                        given.append((key, found, found is mine))
                    for key in [*range(5)] * 8:
                        number = own.pop(key, None)
                        if number is not None:
                            taken.append((key, number))
                            own[key] = number + 1
            crowd(race, 4)
            assert len(given) == 80 and all(v['set', key] == found for key, found, _ in given)
            assert sorted(key for key, _, is_mine in given if is_mine) == [*range(20)]
            assert len(taken) == len({*taken}) > 10 and [v[key] for key in range(5)] == [[key for key, _ in taken].count(one) for one in range(5)]

    def test_a_value_that_cannot_be_loaded_stays(self, v):
        def load(x):
            if problems:
                raise problems[0]
            return Custom(x)
        problems = [ArithmeticError('not today')]
        registered = type('Registered', (Custom,), {})
        vaults.register(registered, lambda one: one.x, load, name='spec.Registered')
        v['a'] = registered(1)
        for use in (lambda: v.pop('a'), lambda: v.setdefault('a', 1)):
            with pytest.raises(vaults.SerializationError, match="'a'"):
                use()
        with contextlib.closing(Vault(v.db_path, allow_pickle=True)) as trusting:
            trusting['b'] = Custom(1)
        for use in (lambda: v.pop('b'), lambda: v.setdefault('b', 1)):
            with pytest.raises(vaults.UntrustedPickleError, match="'b'"):
                use()
        problems.clear()
        assert v.pop('a').x == 1 and v.keys() == ['b']

    def test_what_is_not_sent_at_once_is_set_as_ever(self, between, v):
        large, lock = 'x' * 70_000, threading.Lock()
        v.update(a=1, large=large)
        v.list('list').append(1)
        for default in (large, lock, v.list('list')):
            assert v.setdefault('a', default) == 1
        with pytest.raises(vaults.SerializationError, match="cannot be pickled.*'none'"):
            v.setdefault('none', lock)
        for wrong in ({}, object()):
            with pytest.raises((TypeError, ValueError)):
                v.setdefault(wrong, 1)
        assert requests_of(between, lambda: v.setdefault('larger', large)) == (large, 3)
        assert v.setdefault('copy', v.list('list')) == [1] and type(v.setdefault('copy', 1)) is vaults.List
        assert v.pop('large') == v.pop('larger') == large and v.pop('copy') == [1] and v.keys() == ['a', 'list'] and v.check() == []

    def test_who_may_only_read_gets_what_is_there_and_is_refused_the_rest(self):
        with Serving(tokens={'one': {'*': 'rw'}, 'two': {'*': 'r'}}) as own, contextlib.closing(Vault(own.url_of('x'), token='one')) as v:
            v['a'] = None
            for options in ({'token': 'two'}, {'token': 'one', 'flag': 'r'}):
                with contextlib.closing(Vault(own.url_of('x'), **options)) as reader:
                    assert reader.setdefault('a', 1) is None and reader.pop('b', 5) == 5
                    for write in (lambda: reader.setdefault('b', 1), lambda: reader.pop('a')):
                        with pytest.raises(vaults.VaultReadOnlyError):
                            write()
            assert v == {'a': None}

    def test_a_default_that_is_too_large_for_the_server_is_not_in_the_way_of_what_is_there(self):
        with Serving('--max-body', '20000') as own, contextlib.closing(Vault(own.url_of('x'))) as v:
            v['a'] = 1
            assert v.setdefault('a', 'x' * 30_000) == 1
            with pytest.raises(vaults.VaultValueError, match='--max-body|have the server take more'):
                v.setdefault('b', 'x' * 30_000)
            assert v == {'a': 1}

    def test_what_stands_before_the_entries_is_asked_as_ever(self, v):
        class Shouting(Vault):
            def __setitem__(self, key, value):
                super().__setitem__(key, value.upper())

            def get(self, key, default=None):
                found = super().get(key, default)
                return found.lower() if type(found) is str else found
        checked = []
        with contextlib.closing(Shouting(v.db_path)) as shouting:
            assert shouting.setdefault('a', 'x') == 'x' and v['a'] == 'X' and shouting.pop('a') == 'x'
        with contextlib.closing(Vault(v.db_path, validate=lambda key, value: checked.append(value) or 1 / (value != 2))) as picky:
            assert picky.setdefault('b', 1) == picky.setdefault('b', 2) == 1 and checked == [1]
            with pytest.raises(ZeroDivisionError):
                picky.setdefault('c', 2)
            assert picky.pop('b') == 1
        with contextlib.closing(Vault(v.db_path, writeback=True)) as live:
            live.setdefault('d', []).append(1)
            assert live['d'] == [1] and live.pop('d') == [1]
        assert v == {}

    def test_tasks_have_them_as_well(self, between, v):
        given, large = [1], ['x' * 1000] * 1000

        async def main():
            async with AsyncVault(v.db_path) as tasks:
                await tasks.put('large', large)
                before = len(between.lines)
                assert await tasks.setdefault('a', given) is given and await tasks.setdefault('a', 2) == [1]
                assert await tasks.pop('a') == [1] and await tasks.pop('a', 5) == 5 and len(between.lines) == before + 5
                assert await tasks.setdefault('large', 1) == large and await tasks.pop('large') == large
                async with tasks.transaction():
                    assert await tasks.setdefault('b', 1) == 1 and await tasks.pop('b') == 1
        asyncio.run(main())
        assert v == {}


class TestLeases:
    """A block is all of it or nothing, belongs to who began it, and ends."""

    def test_a_block_that_is_idle_is_rolled_back_and_says_so(self, serving):  # noqa: F811
        url = serving.url_of(serving.name())
        with contextlib.closing(Vault(url)) as v, contextlib.closing(Vault(url, timeout=30)) as other:
            v['a'] = 1
            with pytest.raises(vaults.VaultError, match='for 5 seconds: it was rolled back'), v:
                v['a'] += 1
                v['b'] = len(v)
                other['a'] = 10  # it waits until the block was idle for too long
                v['c'] = 3
            assert v.items() == [('a', 10)]
            with v:
                v['a'] += 1
            assert other['a'] == 11

    def test_64_threads_lose_nothing_on_one_counter(self, serving):  # noqa: F811
        with contextlib.closing(Vault(serving.url_of(serving.name()), timeout=60)) as v:
            v['n'] = 0

            def add():
                for _ in range(3):
                    with v:
                        v['n'] += 1
            crowd(add, 64)
            assert v['n'] == 192

    def test_what_is_nested_is_undone_also_where_some_of_it_was_sent(self, serving):  # noqa: F811
        with contextlib.closing(Vault(serving.url_of(serving.name()))) as v:
            with v:
                v['a'] = 1
                with pytest.raises(ZeroDivisionError), v:
                    v['b'] = 2
                    with v:
                        v['c'] = len(v)
                    1 / 0
                with v:
                    v['d'] = len(v)
            assert v.items() == [('a', 1), ('d', 1)]

    def test_a_block_that_only_puts_is_one_request(self, serving):  # noqa: F811
        with Between(serving.port) as between, contextlib.closing(Vault(f'{between.url}/{serving.name()}')) as v:
            before = len(between.lines)
            with v:
                v['a'] = 1
                with v:
                    v['b'] = 2
            assert len(between.lines) == before + 1 and v.items() == [('a', 1), ('b', 2)]

    def test_a_block_that_is_refused_gives_its_lease_back_when_it_is_left(self):
        with Serving('--max-body', '100000', tokens={'one': {'*': 'rw'}, 'two': {'*': 'r'}}) as own, \
                contextlib.closing(Vault(own.url_of('x'), token='one')) as v, contextlib.closing(Vault(own.url_of('x'), token='two')) as reader:
            v.update(n=1, l=[])

            def in_block(vault, act):
                with vault:
                    assert vault['n'] == 1
                    act()

            def edit():
                with reader.edit('l') as there:
                    there.append(1)

            def in_task():
                async def main():
                    async with AsyncVault(own.url_of('x'), token='two') as tasks, tasks.transaction():
                        await tasks.put('n', await tasks['n'] + 1)
                asyncio.run(main())
            for refused in (lambda: in_block(reader, lambda: reader.put('n', 2)), lambda: in_block(reader, lambda: reader.pop('n')), edit, in_task,
                            lambda: in_block(reader, lambda: in_block(reader, lambda: reader.put('n', 2))),
                            lambda: reader.list('new'), lambda: reader.column('new', int), reader.compact, reader.clear, lambda: reader.update(n=2),
                            lambda: in_block(v, lambda: v.put('n', 'x' * 200_000))):
                with pytest.raises(vaults.VaultError, match='may only read|--max-body|larger|have the server take more'):
                    refused()
                assert own.metric('vaults_open_leases') == 0
            in_block(reader, lambda: None)
            assert own.metric('vaults_open_leases') == 0
            assert v == {'n': 1, 'l': []} and reader == v

    def test_who_has_another_token_has_no_part_in_it(self):
        with Serving(tokens={'one': {'*': 'rw'}, 'two': {'*': 'rw'}}) as own, \
                contextlib.closing(Vault(own.url_of('x'), token='one')) as v, contextlib.closing(Vault(own.url_of('x'), token='two')) as other:
            with v:
                v['a'] = len(v)
                block = v._store.session._block
                with pytest.raises(RefusedVerb) as refused:
                    other._store.asking.ask([('commit',)], 'key', block)
                assert 'not open' in str(refused.value.error)
            assert other['a'] == 0


class TestRemoteVaults:
    """How a vault on a server is opened, and what it says where it cannot be."""

    def test_pickles_of_a_server_are_read_when_that_is_allowed(self, serving):  # noqa: F811
        url = serving.url_of(serving.name())
        with contextlib.closing(Vault(url, allow_pickle=True)) as v, contextlib.closing(Vault(url)) as careful:
            v['a'] = Custom(1)
            assert v['a'].x == 1
            with pytest.raises(vaults.UntrustedPickleError):
                careful['a']
            with pytest.raises(vaults.UntrustedPickleError, match=r'Custom would have to be pickled: register its type with vaults\.register.*allow_pickle'):
                careful['b'] = Custom(2)
            for vault in (v, careful):
                with pytest.raises(vaults.SerializationError, match='cannot be pickled') as raised:
                    vault['c'] = lambda: 1
                assert 'allow_pickle' not in str(raised.value) and not isinstance(raised.value, vaults.UntrustedPickleError)

    def test_the_flags_and_the_end(self, serving):  # noqa: F811
        url = serving.url_of(serving.name())
        for flag in 'rw':
            with pytest.raises(vaults.VaultNotFoundError, match='no vault'):
                Vault(url, flag=flag)
        with contextlib.closing(Vault(url)) as v:
            v['a'] = 1
            v.list('list').append(1)
        with contextlib.closing(Vault(url, flag='r')) as reader:
            assert reader.items() == [('a', 1), ('list', [1])]
            with pytest.raises(vaults.VaultReadOnlyError):
                reader['a'] = 2
        with contextlib.closing(Vault(url, flag='n')) as v:
            assert len(v) == 0 and list(v._store.chunk_owners()) == []
            v.delete_vault()
        with pytest.raises(vaults.VaultNotFoundError):
            Vault(url, flag='w')

    def test_a_token_is_shown_nowhere_and_says_who_may_write(self, monkeypatch, caplog):
        secret = 'sEcr3t-token'
        with Serving(tokens={secret: {'*': 'rw'}, 'reader': {'*': 'r'}}) as own, caplog.at_level(logging.DEBUG):
            url = own.url_of('x')
            with contextlib.closing(Vault(url, token=secret)) as v:
                v['a'] = 1
                data = pickle.dumps(v)
                assert secret.encode() not in data and secret not in repr(v) + v.name + v.db_path + repr(vaults.Options(token=secret))
                with contextlib.closing(pickle.loads(data)) as again:
                    assert again['a'] == 1
            with contextlib.closing(Vault(url, token='reader')) as reader:
                assert reader['a'] == 1
                with pytest.raises(vaults.VaultReadOnlyError, match='may only read'):
                    reader['a'] = 2
            for token, said in ((None, 'wants a token: .*; give it by token=, or in the variable VAULTS_TOKEN'), ('', 'wants a token'),
                                ('wrong', 'does not know the token that is given by token=: .*; .* in its file of tokens')):
                with pytest.raises(vaults.VaultReadOnlyError, match=said) as raised:
                    Vault(url, token=token)
                assert 'Bearer' not in str(raised.value) and 'wrong' not in str(raised.value)
            monkeypatch.setenv('VAULTS_TOKEN', 'wrong')
            with pytest.raises(vaults.VaultReadOnlyError, match='does not know the token of the variable VAULTS_TOKEN: '):
                Vault(url)
            monkeypatch.setenv('VAULTS_TOKEN', secret)
            with contextlib.closing(Vault(url)) as v:
                assert v['a'] == 1
            assert secret not in caplog.text
        for wrong in ('a b', 'a\n', 'ä'):
            with pytest.raises(vaults.VaultValueError, match='no header'):
                Vault(url, token=wrong)
        with pytest.raises(vaults.VaultValueError, match='leave it out'):
            Vault(':memory:', token='x')

    def test_a_vault_that_may_not_be_deleted_stays_open(self):
        with Serving(tokens={'one': {'*': 'rw'}, 'two': {'*': 'r'}}) as own, contextlib.closing(Vault(own.url_of('x'), token='one')) as v, \
                contextlib.closing(Vault(own.url_of('x'), token='two')) as reader:
            v['a'] = 1
            with pytest.raises(vaults.VaultReadOnlyError, match='may only read'):
                reader.delete_vault()

            async def in_task():
                async with AsyncVault(own.url_of('x'), token='two') as tasks:
                    with pytest.raises(vaults.VaultReadOnlyError, match='may only read'):
                        await tasks.delete_vault()
                    return await tasks['a']
            assert reader['a'] == v['a'] == asyncio.run(in_task()) == 1
            with pytest.raises(vaults.VaultReadOnlyError, match='may only read'), reader:
                assert len(reader) == 1
                reader.delete_vault()
            own.grant({'one': {'*': 'rw'}, 'two': {'*': 'rw'}})
            reader.delete_vault()
            assert reader.closed
            v.delete_vault()  # it is gone already
            assert v.closed and own.ask('GET', '/v1/vaults/x', Authorization='Bearer one').status == 404

    def test_a_stream_is_opened_to_write_by_who_may_write(self):
        with Serving(tokens={'one': {'*': 'rw'}, 'two': {'*': 'r'}}) as own, Between(own.port) as between, \
                contextlib.closing(Vault(f'{between.url}/x', token='one')) as v, \
                contextlib.closing(Vault(f'{between.url}/x', token='two')) as reader:
            v['b'] = b'there'
            for mode in ('wb', 'ab', 'a', 'r+b', 'xb'):
                with pytest.raises(vaults.VaultReadOnlyError, match='may only read'):
                    reader.open('b', mode)
            with pytest.raises(vaults.VaultReadOnlyError, match='may only read'):
                reader.put_file('b', __file__)
            with reader.open('b') as file:
                assert file.read() == b'there'
            file, requests = requests_of(between, lambda: v.open('b', 'wb'))
            assert requests == 1
            file.close()
            own.grant({'one': {'*': 'r'}, 'two': {'*': 'rw'}})
            with reader.open('b', 'wb') as file:  # the right that it has now
                file.write(b'since')
            with pytest.raises(vaults.VaultReadOnlyError, match='may only read'), v.open('b', 'wb') as file:
                file.write(b'lost')
            assert v['b'] == b'since'

    @pytest.mark.parametrize('url', ['http://host', 'http:///x', 'http://ann:pw@host/x', 'http://host/x?token=1', 'http://host/x#y', 'http://host:99999/x',
                                     'http://host/ä', 'http://host/a b'])
    def test_a_url_that_is_none_is_refused(self, url):
        with pytest.raises(vaults.VaultValueError, match='the URL of a vault on a server is') as raised:
            Vault(url)
        assert 'pw' not in str(raised.value) and 'token=1' not in str(raised.value)

    @pytest.mark.parametrize('status, error, said', [
        (200, vaults.VaultFormatError, 'no vault of a server of vaults'), (404, vaults.VaultFormatError, 'vaults serve'),
        (301, vaults.VaultValueError, 'no redirect is followed'), (500, vaults.VaultFormatError, '500')])
    def test_another_server_is_told_from_ours(self, status, error, said):
        with Answering(status, body=b'<html>', Location='https://elsewhere/x') as other, pytest.raises(error, match=said):
            Vault(f'{other.url}/x', timeout=.2)

    def test_who_asks_by_the_other_scheme_or_at_another_path_is_told_so(self, serving):  # noqa: F811
        with pytest.raises(vaults.VaultUnreachableError, match='speaks no TLS at this port: .* http://'):
            Vault(f'https://127.0.0.1:{serving.port}/x', timeout=.2)
        with Answering(400, body=b'<html>The plain HTTP request was sent to HTTPS port') as nginx, \
                pytest.raises(vaults.VaultFormatError, match='400 text/html.*https://'):
            Vault(f'{nginx.url}/x', timeout=.2)
        for said in (b'', b'HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n'):
            with saying(said) as url, pytest.raises(vaults.VaultUnreachableError, match='where it speaks TLS, .* https://'):
                Vault(url, timeout=.2)
        with pytest.raises(vaults.VaultFormatError, match='no vaults at this path: see the path before the name') as raised:
            Vault(f'{serving.url}/no/such/x')
        assert 'openapi' not in str(raised.value)
        with Answering(404) as other, pytest.raises(vaults.VaultFormatError) as raised:
            Vault(f'{other.url}/x', timeout=.2)
        assert 'https://' not in str(raised.value)

    def test_who_asks_without_tls_reads_no_certificates(self, serving, monkeypatch):  # noqa: F811
        monkeypatch.setattr(ssl, 'create_default_context', None)
        with contextlib.closing(Vault(serving.url_of(serving.name()))) as v:
            v['a'] = 1
            assert v['a'] == 1

    def test_another_protocol_is_refused(self):
        body = packb([None, [{'protocol': 99}]])
        with Answering(200, WIRE_TYPE, body) as other, pytest.raises(vaults.VaultFormatError, match='another protocol'):
            Vault(f'{other.url}/x')

    def test_a_server_is_a_root(self, serving, monkeypatch):  # noqa: F811
        name = serving.name()
        monkeypatch.setattr('vaults.opening._root', serving.url)
        with contextlib.closing(Vault(name)) as v:
            v['a'] = 1
        assert name in stores.names_under(serving.url, vaults.Options())
        main = 'import sys; from vaults.cli import main; sys.exit(main())'
        for words in (['get', name, 'a'], ['get', serving.url_of(name), 'a'], ['count', name]):
            assert output(main, *words, env={'VAULTS_ROOT': serving.url}) == '1'
        assert name in output(main, 'list', env={'VAULTS_ROOT': serving.url}).split()

    def test_the_command_copies_a_vault_there_and_back_exactly_and_looks_after_it(self, tmp_path):
        with Serving(tokens={'one': {'*': 'rw'}}) as own, contextlib.closing(Vault(tmp_path / 'here.db')) as here:
            fill_with_all(here)
            url, main = own.url_of('there'), 'import sys; from vaults.cli import main; sys.exit(main())'

            def command(*words):
                return output(main, *map(str, words), env={'VAULTS_TOKEN': 'one'}, cwd=str(tmp_path))
            assert command('copy', tmp_path / 'here.db', url) == f'{len(here)} entries copied to {url}'
            assert command('copy', url, tmp_path / 'back.db') == f'{len(here)} entries copied to {tmp_path / "back.db"}'
            command('backup', url, tmp_path / 'backup.db')
            for name in ('back.db', 'backup.db'):
                with contextlib.closing(Vault(tmp_path / name, flag='r')) as back:
                    assert as_stored(back) == as_stored(here) and back.check() == []
            with contextlib.closing(Vault(url, token='one')) as there:
                assert as_stored(there) == as_stored(here)
            assert command('check', url) == f'sound: {len(here)} entries' and 'served    sqlite' in command('info', url)
            command('set', url, 'k', 'v')
            assert command('get', url, 'k') == 'v' and command('delete', url, 'k') == ''
            command('export', url, tmp_path / 'all.jsonl')
            command('import', tmp_path / 'all.jsonl', own.url_of('imported'))
            assert command('keys', own.url_of('imported')) == command('keys', url)


class TestWhatAServerTakes:
    """What comes from outside is looked at before a store sees it."""

    def test_what_the_server_keeps_for_itself_is_hidden_and_refused(self, serving):  # noqa: F811
        with contextlib.closing(open_served(serving.url_of(serving.name()))) as store:
            store.put('a', b'1')
            assert list(store.chunk_owners()) == []
            reserved = b'1234' + RESERVED
            for use in (lambda: store.get_chunk(reserved, 1), lambda: store.delete_chunks(reserved), lambda: store.put_owner('a', reserved),
                        lambda: store.put_chunks(reserved, [(1, b'')]), lambda: store.put_owner('a', bytes(12)), lambda: store.put(b'', b''),
                        lambda: store.put(b'\xffp', b''), lambda: store.get(b'\xffo'), lambda: store.count(0, b'\xffp')):
                with pytest.raises(vaults.VaultValueError):
                    use()
            assert store.get('a') == b'1'

    @pytest.mark.parametrize('operations', [[('none',)], [('get',)], [('get', 'a', 'b')], [('put', 'a', 'text')], [('put_new',)], [('put_new', 'a')], [('put_new', b'', b'')],
                                            [('put_new', 'a', 'text')], [('delete_if', 'a', b'short')], [('get_chunk', b'short', 1)],
                                            [('get', ['a'])], [('compact',), ('get', 'a')], [('page', 0, 1, 1, 0, 0)]], ids=str)
    def test_what_is_no_verb_is_refused(self, serving, operations):  # noqa: F811
        with contextlib.closing(open_served(serving.url_of(serving.name()))) as store, pytest.raises(RefusedVerb) as refused:
            store.asking.ask(operations, 'key')
        assert isinstance(refused.value.error, vaults.VaultValueError)

    def test_a_bomb_makes_no_objects(self):
        bombs = [b'\x90' * 1000, b'\x93\xc0\xc0\xdd\x03\x93\x87\x00' + b'\x90' * 60_000_000, b'\x93\xc0\xc0\x91\xdd\x03\x93\x87\x00' + b'\x90' * 60_000_000,
                 b'\x93\xc0\xc0\x91\x92\xa3get\xdd\x03\x93\x87\x00' + b'\x90' * 60_000_000, b'\x91' * 1_000_000, b'\xdf\xff\xff\xff\xff', b'']
        tracemalloc.start()
        try:
            for bomb in bombs:
                with pytest.raises(vaults.VaultValueError):
                    unpacked_request(bomb)
            assert tracemalloc.get_traced_memory()[1] < 70_000_000  # of which 60 are the bytes themselves
        finally:
            tracemalloc.stop()


# --- what a vault promises, on a server ---------------------------------------------------------------------------

def new_remote_store(**options):
    """Return the store of a new vault on the server that all tests share; skip the test where there is none."""
    try:
        server = shared_serving()
    except MissingServerError as missing:
        pytest.skip(str(missing))
    store = open_served(server.url_of(server.name()), Options(**options))
    store.__class__ = type('TrustedRemoteStore', (type(store),), {'sources': ()})  # nobody else writes it: values may be pickled
    return store


def on_a_server(tests, **sizes):
    """Return a class with the tests over the plain engine, on a server."""
    return type(tests.__name__.replace('ThePlainEngine', 'HTTP'), (tests,), {
        'make_engine': staticmethod(new_remote_store), '__module__': __name__, **sizes})


TestDictOverHTTP = on_a_server(engines.TestDictOverThePlainEngine)
TestViewsOverHTTP = on_a_server(engines.TestViewsOverThePlainEngine)
TestWalksOverHTTP = on_a_server(engines.TestWalksOverThePlainEngine)
TestSlicesOverHTTP = on_a_server(engines.TestSlicesOverThePlainEngine)
TestTransactionsOverHTTP = on_a_server(engines.TestTransactionsOverThePlainEngine)
TestListsOverHTTP = on_a_server(engines.TestListsOverThePlainEngine, LONG=100)
TestColumnsOverHTTP = on_a_server(engines.TestColumnsOverThePlainEngine)
TestSectionsOverHTTP = on_a_server(engines.TestSectionsOverThePlainEngine)
TestStreamsOverHTTP = on_a_server(engines.TestStreamsOverThePlainEngine, APPENDED=60)
TestHolesOverHTTP = on_a_server(engines.TestHolesOverThePlainEngine)
