"""The engine of PostgreSQL when the server, or the way to it, fails: what is repeated, what never is, and what is said then."""
from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import threading
import time

import pytest

import vaults
from spec import servers
from spec.helpers import LINUX, crowd, in_child, in_thread, interrupted, needs_fork, output, server, word  # noqa: F401  # server is a fixture
from spec.postgresql import bouncer, opened_new  # noqa: F401  # bouncer is a fixture
from spec.servers import wait_for
from vaults.stores.base import Options


@pytest.fixture
def on_server(server):  # noqa: F811
    """A vault on the server that all tests share."""
    with contextlib.closing(vaults.Vault(server.vault(), timeout=2)) as v:
        yield v


@pytest.fixture(scope='module')
def own_server(server):  # noqa: F811  # for its skip
    """A server that the tests of this file may restart."""
    with servers.Server() as own:
        yield own


@pytest.fixture
def lost(own_server):
    """A vault in a database of its own, whose backends may be ended, on a server of this file."""
    url = own_server.url(own_server.database(), vault='x')
    with contextlib.closing(vaults.Vault(url, timeout=2)) as v:
        v['a'] = 1
        yield v


def database_of(v):
    return v.db_path.partition('?')[0].rpartition('/')[2]


def end_backends(server, database):  # noqa: F811
    """End all connections to a database, and wait until they are gone."""
    server.end_backends(database)
    wait_for(lambda: server.sql('SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()', database) == [(0,)])


@contextlib.contextmanager
def tables_locked(server, v, table='entries'):  # noqa: F811
    """Have all who read or write the tables of a vault's database wait; what is given lets them go."""
    import psycopg
    with psycopg.connect(server.url(database_of(v))) as connection:
        connection.execute(f'LOCK TABLE vaults.{table} IN ACCESS EXCLUSIVE MODE')
        yield connection.rollback


def waiting_for_locks(server, v):  # noqa: F811
    """Return how many statements wait for a lock in a vault's database."""
    return server.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s", database_of(v))[0][0]


def begun(function):
    """Run a function in a thread; return what waits for its end, and gives what it returned or raised."""
    answers = []

    def run():
        try:
            answers.append(function())
        except BaseException as error:
            answers.append(error)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def end():
        thread.join(30)
        return answers[0]
    return end


class TestLostConnections:
    """What reads is asked again, what writes never; and a vault goes on when the server does."""

    @pytest.mark.parametrize('mode', ['fast', 'immediate'])
    def test_a_vault_outlives_the_server(self, own_server, lost, mode):
        for use in (lambda: lost.put('b', 2), lambda: lost['a'], lambda: lost.update(b=2), lambda: lost.pop('b')):
            own_server.restart(mode)
            assert use() in (None, 1, 2)
        assert lost == {'a': 1} and lost.check() == []

    def test_a_server_that_is_down_cannot_be_reached_and_nothing_was_done(self, own_server, lost):
        own_server.control('-m', 'fast', 'stop')
        try:
            for use in (lambda: lost['a'], lambda: lost.put('a', 2), lambda: lost.update(a=2), lost.__enter__):
                with pytest.raises(vaults.VaultUnreachableError):
                    use()
        finally:
            own_server.start()
        assert lost == {'a': 1}

    def test_a_backend_that_was_ended_between_two_calls_is_not_noticed(self, own_server, lost):
        for use in (lambda: lost.put('b', 2), lambda: lost['a'], lambda: lost.update(b=2), lambda: lost.pop('b')):
            end_backends(own_server, database_of(lost))
            assert use() in (None, 1, 2)

    def test_a_connection_that_was_idle_for_too_long_is_not_noticed(self, own_server):
        name = own_server.database()
        own_server.sql(f"ALTER DATABASE {name} SET idle_session_timeout = '400ms'")
        with contextlib.closing(vaults.Vault(own_server.url(name, vault='x'))) as v:
            for number in range(2):
                time.sleep(.6)
                v[number] = number
                time.sleep(.6)
                assert v[number] == number
            assert len(v) == 2

    def test_what_reads_is_asked_again(self, own_server, lost):
        for read in (lambda: lost['a'], lambda: lost.items()[:], lambda: 'a' in lost, lambda: lost.get_many(['a'])):
            with tables_locked(own_server, lost) as let_go:
                end = begun(read)
                wait_for(lambda: waiting_for_locks(own_server, lost) == 1)
                own_server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                wait_for(lambda: waiting_for_locks(own_server, lost) == 1)  # it has asked again
                let_go()
                assert end() in (1, [('a', 1)], True, {'a': 1})

    def test_what_reads_is_asked_again_once(self, own_server, lost):
        with tables_locked(own_server, lost):
            end = begun(lambda: lost['a'])
            for _ in range(2):
                wait_for(lambda: own_server.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")[0][0])
            error = end()
        assert type(error) is vaults.VaultUnreachableError and 'lost again' in str(error)
        assert lost['a'] == 1

    def test_what_writes_is_not_asked_again_and_says_that_nobody_knows(self, own_server, lost):
        for write in (lambda: lost.put('a', 2), lambda: lost.put('new', 2), lambda: lost._store.delete('a'), lambda: lost.setdefault('b', 2),
                      lambda: lost._store.delete_if('a', b'\1')):
            with tables_locked(own_server, lost) as let_go:
                end = begun(write)
                wait_for(lambda: waiting_for_locks(own_server, lost) == 1)
                own_server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                error = end()
                let_go()
            assert type(error) is vaults.VaultUnsureError and 'may have been done' in str(error)
        assert lost == {'a': 1} and lost.check() == []

    def test_a_block_whose_connection_is_lost_is_undone_and_is_to_be_left(self, own_server, lost):
        with pytest.raises(vaults.VaultUnreachableError, match='nothing was kept'), lost:
            lost['a'] = 2
            end_backends(own_server, database_of(lost))
            for use in (lambda: lost['a'], lambda: lost.put('b', 2), lambda: lost.update(b=2), lambda: list(lost), lost.__enter__):
                with pytest.raises(vaults.VaultUnreachableError, match='nothing was kept'):
                    use()
        assert lost == {'a': 1}
        lost['b'] = 2

    def test_a_nested_block_whose_connection_is_lost_undoes_those_around_it(self, own_server, lost):
        with pytest.raises(vaults.VaultUnreachableError), lost:
            lost['a'] = 2
            with contextlib.suppress(vaults.VaultUnreachableError), lost:
                lost['b'] = 2
                end_backends(own_server, database_of(lost))
                lost['c'] = 2
            lost['d'] = 2
        assert lost == {'a': 1}

    def test_an_idle_block_that_the_server_has_ended(self, own_server):
        name = own_server.database()
        with contextlib.closing(vaults.Vault(own_server.url(name, vault='x'))) as v:
            own_server.sql(f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '50ms'")
            end_backends(own_server, name)
            with pytest.raises(vaults.VaultUnreachableError), v:
                v['a'] = 1
                time.sleep(.3)
                v['b'] = 1
            assert v == {}

    def test_when_the_commit_is_lost_nobody_knows(self, own_server, lost):
        with pytest.raises(vaults.VaultUnsureError, match='may have been done'), lost:
            lost['a'] = 2
            end_backends(own_server, database_of(lost))
        assert lost == {'a': 1}
        with pytest.raises(vaults.VaultUnreachableError), lost:  # what has only read
            assert lost['a'] == 1
            end_backends(own_server, database_of(lost))

    def test_an_answer_is_never_that_to_another_question(self, own_server, lost):
        lost.update((number, number) for number in range(100))
        stop, problems = threading.Event(), []

        def read():
            while not stop.is_set():
                for number in range(100):
                    try:
                        if lost[number] != number:
                            problems.append(number)
                    except vaults.VaultUnreachableError:
                        pass
        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            own_server.end_backends(database_of(lost))
            time.sleep(.02)
        stop.set()
        for thread in threads:
            thread.join()
        assert problems == []

    def test_a_server_that_is_silent_is_given_up(self, own_server, lost):
        own_server.sql('SELECT 1')
        stopped = [int((own_server.data / 'postmaster.pid').read_text().split()[0]), *(
            pid for pid, in own_server.sql('SELECT pid FROM pg_stat_activity WHERE datname = %s', database_of(lost)))]
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        try:
            with pytest.raises(vaults.VaultUnreachableError):
                lost['a']
        finally:
            for process in stopped:
                os.kill(process, signal.SIGCONT)
        assert lost['a'] == 1

    def test_what_takes_long_is_waited_for_as_long_as_the_server_answers_others(self, own_server):
        with contextlib.closing(vaults.Vault(own_server.url(own_server.database(), vault='x'), timeout=1)) as v:
            v['a'] = 1
            with tables_locked(own_server, v) as let_go:
                end = begun(lambda: v['a'])
                time.sleep(2.5)
                let_go()
                assert end() == 1

    def test_a_thread_that_dies_in_a_block_keeps_nobody_out(self, on_server):
        def leave_open():
            on_server.__enter__()
            on_server['a'] = 1
        in_thread(leave_open)
        gc.collect()
        on_server['b'] = 1
        with on_server:
            assert on_server == {'b': 1}


class TestWhatTheServerSays:
    """Errors of the server are ours, by their codes; nothing of the call was done, or it is said."""

    def test_who_waits_for_too_long_is_told(self, on_server, server):  # noqa: F811
        on_server['a'] = 1
        url = on_server.db_path
        with on_server:
            for timeout in (0, .2):
                with contextlib.closing(vaults.Vault(url, timeout=timeout)) as other:
                    for write in (lambda: other.put('a', 2), lambda: other.update(a=2), other.__enter__, lambda: other.pop('a'), other.clear):
                        began = time.monotonic()
                        with pytest.raises(vaults.VaultBusyError, match='whole timeout'):
                            in_thread_raising(write)
                        assert time.monotonic() - began < timeout + 3
                    assert other['a'] == 1  # who reads does not wait
        assert on_server == {'a': 1}

    def test_threads_of_a_vault_that_is_thread_safe_wait_for_each_other_without_end(self, server):  # noqa: F811
        with contextlib.closing(vaults.Vault(server.vault(), timeout=.05, thread_safe=True)) as v:
            with v:
                ends = [begun(lambda: v.put('b', 1)), begun(lambda: v.update(c=1))]
                time.sleep(.4)
                v['a'] = 1
            assert [end() for end in ends] == [None, None] and sorted(v) == ['a', 'b', 'c']

    def test_what_the_statement_timeout_ends_was_not_done(self, own_server):
        name = own_server.database()
        with contextlib.closing(vaults.Vault(own_server.url(name, vault='x'))) as v:
            own_server.sql(f"ALTER DATABASE {name} SET statement_timeout = '100ms'")
            end_backends(own_server, name)
            with tables_locked(own_server, v):
                kept = []
                for use in (lambda: v.put('a', 1), lambda: v.get('a')) * 3:
                    with pytest.raises(vaults.VaultBusyError, match='statement_timeout') as caught:
                        use()
                    kept.append(caught.value)
                # All of them by one connection, which no error keeps; the other one has the lock.
                assert own_server.sql('SELECT count(*) FROM pg_stat_activity WHERE datname = %s', name) == [(2,)] and len(kept) == 6
            assert v == {}

    def test_a_block_that_an_error_has_undone_is_not_committed(self, on_server):
        on_server['a'] = 1
        with pytest.raises(vaults.VaultError, match='an error in the block had undone it'), on_server:
            on_server['a'] = 2
            with contextlib.suppress(Exception):
                on_server._store.session.wire.run(b'SELECT 1 / 0')
        assert on_server == {'a': 1}
        with pytest.raises(vaults.VaultError, match='an error in this block has undone it'), on_server:
            on_server['a'] = 2
            with contextlib.suppress(Exception):
                on_server._store.session.wire.run(b'SELECT 1 / 0')
            on_server['b'] = 3
        with on_server:
            on_server['c'] = 3
            with pytest.raises(vaults.VaultError, match='SQLSTATE 25P02'), on_server:
                on_server['d'] = 4
                with contextlib.suppress(Exception):
                    on_server._store.session.wire.run(b'SELECT 1 / 0')
            assert on_server['c'] == 3 and 'd' not in on_server  # those around it go on
        assert on_server == {'a': 1, 'c': 3}

    def test_what_could_not_be_put_in_line_is_run_again_and_blocks_are_not(self, on_server):
        failing = b"DO $$ BEGIN RAISE EXCEPTION 'not in line' USING ERRCODE = 'serialization_failure'; END $$"
        tries = []

        def change(most=3):
            tries.append(len(on_server))
            on_server['a'] = len(tries)
            if len(tries) < most:
                on_server._store.session.run(failing)
            return len(tries)
        assert on_server._store.transact(change) == 3 and tries == [0, 0, 0] and on_server == {'a': 3}
        del tries[:]
        for use in (lambda: on_server._store.once(change), lambda: put_in_a_block(on_server, change)):
            with pytest.raises(vaults.VaultBusyError, match='not in line.*repeat it'):
                use()
        assert len(tries) == 2 and on_server == {'a': 3}
        began = time.monotonic()
        with pytest.raises(vaults.VaultBusyError):
            on_server._store.transact(lambda: change(1 << 40))
        assert 1.9 < time.monotonic() - began < 6

    def test_statements_that_somebody_has_discarded_are_prepared_anew(self, on_server):
        on_server['a'] = 1
        for use in (lambda: on_server['a'], lambda: on_server.put('a', 1), lambda: on_server.put('b', 1)):
            wire = on_server._store.pool.take()
            wire.run(b'DISCARD ALL')
            on_server._store.pool.give(wire)
            assert use() in (1, None)
        assert on_server == {'a': 1, 'b': 1}

    def test_a_commit_that_no_longer_waits_for_its_standby_is_told(self, own_server, lost):
        own_server.configure('synchronous_standby_names', 'nobody')
        try:
            wait_for(lambda: own_server.sql('SHOW synchronous_standby_names') == [('nobody',)])
            for end_it, write in itertools.product(('pg_cancel_backend', 'pg_terminate_backend'), (lost.put, put_in_block)):
                end = begun(lambda write=write: write('b', 2) if write is not put_in_block else put_in_block(lost))
                ending = f"SELECT {end_it}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                wait_for(lambda ending=ending: own_server.sql(ending))
                error = end()
                assert type(error) is vaults.VaultUnsureError, error
                assert lost['b'] == 2  # here it is done
        finally:
            own_server.configure('synchronous_standby_names', '')
        wait_for(lambda: own_server.sql('SHOW synchronous_standby_names') == [('',)])
        lost['c'] = 3

    def test_a_server_that_can_only_be_read(self, own_server):
        name = own_server.database()
        with contextlib.closing(vaults.Vault(own_server.url(name, vault='x'))) as v:
            v['a'] = 1
            own_server.sql(f'ALTER DATABASE {name} SET default_transaction_read_only = on')
            end_backends(own_server, name)
            for write in (lambda: v.put('a', 2), lambda: v.update(a=2), lambda: v.setdefault('b', 2), lambda: v.pop('a')):
                with pytest.raises(vaults.VaultReadOnlyError, match='can only be read'):
                    write()
            assert v.setdefault('a', 2) == 1
            with contextlib.closing(vaults.Vault(own_server.url(name, vault='x'), flag='r')) as reader:
                assert reader == v == {'a': 1}

    def test_a_database_with_as_many_connections_as_it_may_have(self, own_server):
        name = own_server.database()
        own_server.sql('CREATE ROLE few LOGIN')
        own_server.sql(f'ALTER DATABASE {name} OWNER TO few')
        url = own_server.url(name, vault='x').replace('vaults@', 'few@')
        with contextlib.closing(vaults.Vault(url, timeout=1)) as v:
            v['a'] = 1
            own_server.sql(f'ALTER DATABASE {name} CONNECTION LIMIT 1')
            with v, pytest.raises(vaults.VaultUnreachableError, match='too many connections'):
                in_thread_raising(lambda: v['a'])
            assert v['a'] == 1


def put_in_a_block(v, operation):
    with v:
        v._store.transact(operation)


def put_in_block(v):
    with v:
        v['b'] = 2


def in_thread_raising(function):
    """Do it in another thread; raise what it raises."""
    found = begun(function)()
    if isinstance(found, BaseException):
        raise found
    return found


class TestInterrupts:
    """An interrupt, at whatever moment, leaves no block open and no connection in the midst of an answer."""

    @pytest.mark.skipif(not LINUX, reason='sends itself signals')
    @pytest.mark.parametrize('write', [lambda v: v.put('a', 2), lambda v: v.update(a=2), lambda v: v['a'], lambda v: v.clear()])
    def test_ctrl_c_is_heard_while_the_server_is_waited_for(self, own_server, lost, hears_ctrl_c, write):
        with tables_locked(own_server, lost) as let_go:
            timer = threading.Timer(.3, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                write(lost)
            assert time.monotonic() - began < 5
            wait_for(lambda: waiting_for_locks(own_server, lost) == 0)  # nor does the server go on with it
            let_go()
        assert lost == {'a': 1} and lost.check() == []

    @pytest.mark.skipif(not LINUX, reason='sends itself signals')
    def test_what_a_signal_handler_raises_is_not_taken_for_a_lost_connection(self, own_server, lost):
        def late(*_):
            raise TimeoutError('late')  # which is an OSError
        before = signal.signal(signal.SIGUSR1, late)
        try:
            for use in (lambda: lost['a'], lambda: lost.put('a', 2), lambda: lost.update(a=2)):
                with tables_locked(own_server, lost) as let_go:
                    threading.Timer(.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                    with pytest.raises(TimeoutError, match='^late$'):
                        use()
                    wait_for(lambda: waiting_for_locks(own_server, lost) == 0)
                    let_go()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert lost == {'a': 1}

    def test_a_call_ends_when_somebody_else_says_so(self, own_server, lost):
        stop = threading.Event()
        with tables_locked(own_server, lost) as let_go:
            threading.Timer(.3, stop.set).start()
            with pytest.raises(vaults.VaultError, match='was interrupted'), lost._store.interruptible(stop.is_set):
                lost['a']
            let_go()
        with lost._store.interruptible(lambda: False):
            assert lost['a'] == 1

    @pytest.mark.skipif(not LINUX, reason='sends itself signals')
    def test_a_signal_handler_may_use_the_vault_while_a_call_waits(self, own_server, lost):
        seen = []

        def use(*_):
            seen.append(lost.get('a'))
            lost['from the handler'] = len(seen)
        before = signal.signal(signal.SIGUSR1, use)
        try:
            lost['a'] = 1
            with lost:
                lost['b'] = 2
                lost._store.session.wire.run(b'SELECT 1')
                threading.Timer(.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                assert [answer.ntuples for answer in lost._store.session.wire.run(b'SELECT pg_sleep(.5); SELECT 1')] == [1, 1]
                assert lost['from the handler'] == 1 and lost['b'] == 2
            threading.Timer(.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            with tables_locked(own_server, lost, 'tallies') as let_go:
                threading.Timer(.5, let_go).start()
                assert len(lost) == 3  # outside of a block, by a connection of its own
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert seen == [1, 1] and lost == {'a': 1, 'b': 2, 'from the handler': 2} and lost.check() == []

    @pytest.mark.parametrize('act', ['put', 'get', 'delete', 'update', 'block', 'nested', 'undone', 'walk'])
    def test_an_interrupt_at_any_line_leaves_it_as_it_was_and_open_to_all(self, server, act):  # noqa: F811
        store = opened_new(server)
        v = vaults.Vault(store=store)

        def block(again=None):
            with v:
                v['a'] = 1
                again and again()
                v['b'] = 1

        def undone():
            with contextlib.suppress(ZeroDivisionError), v:
                v['a'] = 1
                1 / 0

        def alone():
            with v:
                return True
        acts = {'put': lambda: v.put('a', 1), 'get': lambda: v['x'], 'delete': lambda: v.pop('x'), 'block': block, 'walk': lambda: list(v.items()),
                'update': lambda: v.update(a=1, b=1), 'nested': lambda: block(block), 'undone': undone}
        where = []
        gc.collect()
        for at in itertools.count(1 + len(act) % 3, 3):  # what the acts have in common they meet at different lines
            v.clear()
            v['x'] = 0
            gc.disable()
            again = interrupted(acts[act], at, where)
            gc.enable()
            assert store.local.session is None, (at, where)
            assert in_thread(alone), (at, where)  # which waits for a commit that the server had begun
            found = dict(v.items())
            assert found in ({'x': 0}, {}, {'x': 0, 'a': 1}, {'x': 0, 'a': 1, 'b': 1}), (at, where, found)
            assert found != {'x': 0, 'a': 1} or act == 'put', (at, where)
            assert len(v) == len(found), (at, where)
            if not again:
                break
        assert at > 12 and v.check() == []


@needs_fork
class TestForksOnPostgreSQL:
    """A child has connections of its own, and leaves its parent's alone."""

    def test_a_block_of_the_parent_is_not_the_childs(self, on_server):
        on_server['a'] = 1

        def held():
            with on_server, on_server:
                on_server['b'] = 2
                yield
        generator = held()
        next(generator)

        def work():
            next(generator, None)
            try:
                on_server['c'] = 3  # it waits for the block of the parent
            except vaults.VaultBusyError:
                return [*on_server.items()]
        assert in_child(work).answer() == [('a', 1)]
        next(generator, None)
        assert on_server.items() == [('a', 1), ('b', 2)]

    def test_parent_and_child_go_on_side_by_side(self, on_server):
        on_server['count'] = 0
        on_server['a'] = 1

        def add():
            for _ in range(50):
                with on_server:
                    on_server['count'] += 1
                assert on_server['a'] == 1
            return True
        children = [in_child(add) for _ in range(3)]
        assert add() and [child.answer() for child in children] == [True] * 3
        assert on_server['count'] == 200 and on_server.check() == []

    def test_a_child_keeps_no_connection_of_its_parent_open(self, own_server, lost):
        with word() as (waits, goes_on), lost:
            lost['b'] = 1
            child = in_child(waits)
            lost._store.session.wire.cut()
            with pytest.raises(vaults.VaultError):
                lost['c'] = 1
            with contextlib.suppress(vaults.VaultError):
                lost.__exit__(None, None, None)
            in_thread_raising(lambda: lost.put('d', 1))  # as long as the child is there
            goes_on()
            child.answer()
            lost.__enter__()


class TestWritersOnPostgreSQL:
    """Blocks exclude other writers, on whatever machine, and lose nothing."""

    @pytest.mark.parametrize('by_rows', [False, True])
    def test_own_writes_and_blocks_of_many_threads_lose_nothing(self, server, by_rows):  # noqa: F811
        from vaults.stores.postgresql.opening import open_vault
        url = server.vault()
        with contextlib.closing(vaults.Vault(store=open_vault(url, Options(timeout=60), by_rows))) as v:
            v['count'] = 0

            def add(thread):
                for number in range(40):
                    with v:
                        v['count'] += 1
                    v[thread, number] = number
                    if number % 2:
                        del v[thread, number - 1]
            crowd(add, 5, *[(thread,) for thread in range(5)])
            assert v['count'] == 200 and len(v) == 101 and v.check() == []

    def test_two_programs_increment_one_counter(self, server, root):  # noqa: F811
        url = server.vault()
        program = """
            import sys, vaults
            v = vaults.Vault(sys.argv[1], timeout=60)
            for _ in range(100):
                with v:
                    v['count'] = v.get('count', 0) + 1
            """
        ends = [begun(lambda: output(program, url)) for _ in range(3)]
        assert [end() for end in ends] == [''] * 3
        with contextlib.closing(vaults.Vault(url)) as v:
            assert v['count'] == 300

    def test_chunks_go_with_what_is_replaced_from_many_sides(self, on_server):
        def work(number):
            for again in range(15):
                if (number + again) % 3:
                    on_server['a'] = number
                else:
                    with on_server:
                        on_server.pop('a', None)
                        on_server.list('a').extend(range(2000))
                on_server.pop('a', None)
        crowd(work, 3, *[(number,) for number in range(3)])
        assert list(on_server._store.chunk_owners()) == [] and len(on_server) == 0 and on_server.check() == []


class TestOnPostgreSQL:
    def test_it_tells_whether_anybody_has_written(self, on_server):
        store = on_server._store
        assert store.others_wrote()
        wait_for(lambda: not store.others_wrote())  # the server itself may have written
        with contextlib.closing(vaults.Vault(on_server.db_path)) as other:
            other['a'] = 1
        assert store.others_wrote()

    def test_what_gives_the_entries_may_hold_blocks_that_are_undone(self, on_server):
        def pairs():
            yield 'a', b'1'
            store.begin('inner')
            yield 'b', b'2'
            store.rollback('inner')
            yield 'c', b'3'
            store.begin('other')
            yield 'd', b'4'
            assert store.count() == 3
            store.put_many([('e', b'5'), ('a', b'6')])
            store.commit('other')
            yield 'f', b'7'
        store = on_server._store
        assert store.put_many(pairs()) == 5
        assert [(key, store.get(key)) for key in 'abcdef'] == [('a', b'6'), ('b', None), ('c', b'3'), ('d', b'4'), ('e', b'5'), ('f', b'7')]
        assert store.count() == 5 and [key for keys, _, _ in store.scan() for key in keys] == ['a', 'c', 'd', 'e', 'f']

    def test_another_thread_that_closes_it_ends_the_call_of_a_block(self, own_server, lost):
        with tables_locked(own_server, lost) as let_go:
            def block():
                with lost:
                    lost['a'] = 2
            end = begun(block)
            wait_for(lambda: waiting_for_locks(own_server, lost) == 1)
            lost.close()
            assert type(end()) is vaults.VaultClosedError
            let_go()
        with contextlib.closing(vaults.Vault(lost.db_path)) as again:
            assert again == {'a': 1}


class TestPooled:
    """PgBouncer in transaction mode: nothing is left in a connection that the next one would meet."""

    def test_nothing_is_prepared_and_no_setting_stays(self, server, bouncer):  # noqa: F811
        name = server.database()
        with contextlib.closing(vaults.Vault(bouncer.url(name, vault='x'), timeout=3, synchronous='OFF')) as v:
            wire = v._store.pool.take()
            assert not wire.is_direct
            v._store.pool.give(wire)
            v.update(a=1, b=2)
            v['a'] = 3
            with v:
                v['c'] = v['a']
            for setting, usual in (('lock_timeout', '0'), ('synchronous_commit', 'on')):
                wire = v._store.pool.take()
                assert wire.run(b'SHOW ' + setting.encode())[0].get_value(0, 0) == usual.encode()
                v._store.pool.give(wire)
            assert v == {'a': 3, 'b': 2, 'c': 3}

    def test_a_call_is_cancelled_through_it(self, server, bouncer):  # noqa: F811
        name = server.database()
        with contextlib.closing(vaults.Vault(bouncer.url(name, vault='x'))) as v:
            v['a'] = 1
            stop = threading.Event()
            with tables_locked(server, v) as let_go:
                threading.Timer(.3, stop.set).start()
                with pytest.raises(vaults.VaultError, match='was interrupted'), v._store.interruptible(stop.is_set):
                    v.put('a', 2)
                wait_for(lambda: waiting_for_locks(server, v) == 0)
                let_go()
            assert v['a'] == 1
