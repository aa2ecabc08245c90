"""The engine of PostgreSQL: the contract on a real server, how a vault there is opened, and what lies in its tables."""
from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import shutil
import socket
import threading
import time
import traceback

import pytest

import vaults
from spec import engines, servers
from spec.documents import assert_shown, blocks, installs, sections, shell
from spec.helpers import ON_A_SERVER, crowd, in_few_examples, in_thread, run, server  # noqa: F401  # server is a fixture
from vaults.stores.base import Options
from vaults.testing import StoreConformance
from vaults.testing.oracle import OPERATIONS


@pytest.fixture(scope='session')
def database(server):  # noqa: F811  # the fixture
    """The URL of a database that the tests of this file share, each with vaults of its own."""
    return server.url(server.database())


@pytest.fixture(scope='session')
def bouncer(server):  # noqa: F811
    """PgBouncer in transaction mode before that server."""
    try:
        return server.bouncer()
    except servers.MissingServerError as missing:
        pytest.skip(str(missing))


PASSWORD_OF_ANN = 'sEcr3t/@:1'


@pytest.fixture(scope='session')
def guarded(server):  # noqa: F811  # which tells when there is none
    """A server that lets `ann` in with her password over TLS alone; as localhost, which its certificate is of."""
    with servers.Server() as guarded:
        key, certificate = guarded.data / 'key.pem', guarded.data / 'certificate.pem'
        guarded.run('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost', '-days', 2,
                    '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', certificate)
        key.chmod(0o600)
        hosts = guarded.data / 'pg_hba.conf'
        hosts.write_text(f'hostssl all ann all scram-sha-256\nhostnossl all ann all reject\n{hosts.read_text()}')
        for name, value in (('ssl_cert_file', certificate), ('ssl_key_file', key), ('ssl', 'on')):
            guarded.configure(name, value)
        servers.wait_for(lambda: guarded.sql('SHOW ssl') == [('on',)])
        guarded.sql(f"CREATE ROLE ann LOGIN PASSWORD '{PASSWORD_OF_ANN}'")
        guarded.sql('CREATE DATABASE app OWNER ann')
        yield guarded


class TestPostgreSQLConformance(StoreConformance):
    """PostgreSQL meets the contract, with either of the locks that writers wait for, and behind a pooler."""

    test_every_operation_does_what_the_oracle_does = in_few_examples(
        StoreConformance.test_every_operation_does_what_the_oracle_does, operations=OPERATIONS)

    @pytest.fixture(autouse=True, params=['advisory locks', 'row locks', 'pooled'])
    def kind(self, request, database):
        self.url, self.by_rows = database, request.param == 'row locks'
        if request.param == 'pooled':
            self.url = request.getfixturevalue('bouncer').url(database.rpartition('/')[2])

    def make_store(self, folder):
        from vaults.stores.postgresql.opening import open_vault
        name = hashlib.md5(str(folder).encode()).hexdigest()
        return open_vault(f'{self.url}?vault={name}', Options(), self.by_rows)


def raised(function):
    """Return the VaultError that a function raises, and all that is printed of it."""
    with pytest.raises(vaults.VaultError) as caught:
        function()
    return caught.value, ''.join(traceback.format_exception(type(caught.value), caught.value, caught.value.__traceback__))


class TestPostgreSQLOpening:
    """What cannot be opened says why, and is left as it was."""

    def test_a_url_names_a_database_and_a_vault(self, server, monkeypatch):  # noqa: F811
        monkeypatch.delenv('PGDATABASE', raising=False)
        plain = server.url('postgres')
        for wrong, said in ((plain, 'name one vault'), (plain + '?vault=', 'name one vault'), (plain + '?vault=a&vault=b', 'name one vault'),
                            (plain + '?vault=' + 'x' * 256, 'at most 255 bytes'), (plain + '?vault=a%00b', 'name one vault'),
                            ('postgresql://vaults@127.0.0.1?vault=a', 'names no database'), ('postgresql://?vault=a', 'names no database'),
                            (plain + '?vault=a&nonsense=1', 'libpq cannot read')):
            with pytest.raises(vaults.VaultValueError, match=said):
                vaults.Vault(wrong)

    def test_names_of_vaults_are_any_text(self, database):
        from vaults.stores import postgresql
        for name in ('plain', 'a b&c=d', 'ä/?#%', '\'quoted\'', 'C:\\x'):
            url = postgresql.named(database, name)
            with contextlib.closing(vaults.Vault(url)) as v:
                v['name'] = name
            with contextlib.closing(vaults.Vault(url, flag='w')) as v:
                assert v['name'] == name
            assert name in postgresql.names(database, Options())
            v.delete_vault()
            assert name not in postgresql.names(database, Options())

    def test_a_database_without_vaults_has_no_names_and_stays_as_it_is(self, server):  # noqa: F811
        from vaults.stores import postgresql
        name = server.database()
        assert postgresql.names(server.url(name), Options()) == []
        for flag in 'rw':
            with pytest.raises(vaults.VaultNotFoundError, match='there is no vault'):
                vaults.Vault(server.url(name, vault='x'), flag=flag)
        assert server.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'vaults'", database=name) == [(0,)]

    def test_the_flags(self, database):
        url = f'{database}?vault=flags'
        with contextlib.closing(vaults.Vault(url)) as v, contextlib.closing(vaults.Vault(url, flag='r')) as reader:
            v['a'] = 1
            v.list('list').append(1)
            assert reader['a'] == 1 and reader.items() == [('a', 1), ('list', [1])]
            for change in (lambda: reader.update(a=2), lambda: reader.pop('a'), reader.clear, reader.delete_vault):
                with pytest.raises(vaults.VaultReadOnlyError):
                    change()
            with reader:  # one state
                v['a'] = 2
                v['b'] = 3
                assert reader['a'] == 1 and len(reader) == 2 and 'b' not in reader
            assert reader['a'] == 2 and len(reader) == 3
            with contextlib.closing(vaults.Vault(url, flag='n')) as new:
                assert len(new) == len(v) == 0 and list(new._store.chunk_owners()) == []

    def test_the_password_is_nowhere(self, caplog):
        pytest.importorskip('psycopg')
        secret, shown = 'sEcr3t', 'postgresql://ann@127.0.0.1:1/db?vault=x'
        for url in (f'postgresql://ann:{secret}@127.0.0.1:1/db?vault=x', f'postgresql://ann@127.0.0.1:1/db?vault=x&password={secret}'):
            with caplog.at_level(logging.DEBUG):
                error, text = raised(lambda url=url: vaults.Vault(url, timeout=1))
            assert type(error) is vaults.VaultUnreachableError and shown in str(error) and secret not in text + caplog.text
            assert '.pgpass' in str(error)
        for wrong in ('%zz', '%', '#', '@@'):  # which libpq quotes when it complains
            error, text = raised(lambda wrong=wrong: vaults.Vault(f'postgresql://ann:{secret}{wrong}@127.0.0.1:1/db?vault=x', timeout=1))
            assert secret not in text

    def test_a_vault_is_pickled_without_its_password(self, server):  # noqa: F811
        url = server.vault().replace('vaults@', 'vaults:sEcr3t@')
        with contextlib.closing(vaults.Vault(url)) as v:
            v['a'] = 1
            data = pickle.dumps(v)
            assert b'sEcr3t' not in data and 'sEcr3t' not in repr(v) + v.name + v.db_path
            with contextlib.closing(pickle.loads(data)) as again:
                assert again == {'a': 1} and 'sEcr3t' not in repr(again)

    def test_a_server_that_does_not_answer_is_waited_for_as_long_as_the_timeout(self, server):  # noqa: F811
        with contextlib.closing(socket.socket()) as silent:
            silent.bind(('127.0.0.1', 0))
            silent.listen(8)
            port, began = silent.getsockname()[1], time.monotonic()
            with pytest.raises(vaults.VaultUnreachableError, match='no answer in 1 s'):
                vaults.Vault(f'postgresql://vaults@127.0.0.1:{port}/postgres?vault=x', timeout=1)
            assert 0.9 < time.monotonic() - began < 5
            # The next host has a time of its own.
            url = f'postgresql://vaults@127.0.0.1:{port},127.0.0.1:{server.port}/postgres?vault=hosts'
            with contextlib.closing(vaults.Vault(url, timeout=1)) as v:
                v['a'] = 1
                assert v['a'] == 1

    def test_a_database_that_is_not_there(self, server):  # noqa: F811
        with pytest.raises(vaults.VaultUnreachableError, match='"nowhere" does not exist'):
            vaults.Vault(server.url('nowhere', vault='x'))

    def test_who_has_no_rights_is_told_which_are_wanted(self, server):  # noqa: F811
        name = server.database()
        url = server.url(name, vault='x')
        as_guest = url.replace('vaults@', 'guest@')
        if not server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'guest'"):
            server.sql('CREATE ROLE guest LOGIN')
        with pytest.raises(vaults.VaultReadOnlyError, match='permission denied for database'):
            vaults.Vault(as_guest)
        assert server.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'vaults'", database=name) == [(0,)]
        with contextlib.closing(vaults.Vault(url)) as v:
            v['a'] = 1
        for flag in 'rwc':
            with pytest.raises(vaults.VaultReadOnlyError, match='rights'):
                vaults.Vault(as_guest, flag=flag)
        server.sql('GRANT USAGE ON SCHEMA vaults TO guest', database=name)
        server.sql('GRANT SELECT ON ALL TABLES IN SCHEMA vaults TO guest', database=name)
        server.sql('GRANT SELECT ON ALL SEQUENCES IN SCHEMA vaults TO guest', database=name)
        with contextlib.closing(vaults.Vault(as_guest, flag='r')) as reader:
            assert reader == {'a': 1} and reader.check() == []
        with contextlib.closing(vaults.Vault(as_guest, flag='w')) as guest:
            for change in (lambda: guest.update(a=2), lambda: guest.put('a', 2), lambda: guest.pop('a'), lambda: guest.setdefault('b', 2)):
                with pytest.raises(vaults.VaultReadOnlyError, match='rights'):
                    change()
            with pytest.raises(vaults.VaultReadOnlyError, match='rights'):
                guest.delete_vault()
            assert guest == {'a': guest.setdefault('a', 2)} == {'a': 1}

    def test_a_newer_format_is_not_touched(self, server):  # noqa: F811
        name = server.database()
        vaults.Vault(server.url(name, vault='x')).close()
        server.sql('UPDATE vaults.vaults SET format = 2', database=name)
        server.sql('ALTER TABLE vaults.entries ADD COLUMN new text', database=name)
        for flag in 'rwcn':
            with pytest.raises(vaults.VaultFormatError, match='format 2.*newer vaults'):
                vaults.Vault(server.url(name, vault='x'), flag=flag)
        assert server.sql('SELECT format FROM vaults.vaults', database=name) == [(2,)]

    @pytest.mark.parametrize('table', ['vaults.entries (id integer)', 'vaults.vaults (id integer, name text)', 'vaults.parts (x text)'])
    def test_somebody_elses_tables_are_not_touched(self, server, table):  # noqa: F811
        name = server.database()
        server.sql('CREATE SCHEMA vaults', database=name)
        server.sql(f'CREATE TABLE {table}', database=name)
        with pytest.raises(vaults.VaultFormatError, match='not those of vaults.*left as it was'):
            vaults.Vault(server.url(name, vault='x'))
        assert server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'vaults'", database=name) == [(1,)]

    def test_many_make_one_at_the_same_moment(self, server):  # noqa: F811
        url, opened = server.url(server.database(), vault='x'), []

        def make():
            opened.append(vaults.Vault(url))
            opened[-1].put(threading.get_ident(), 1)
        crowd(make, 8)
        assert len(opened) == 8 and {len(v) for v in opened} == {8} and opened[0].check() == []
        for v in opened:
            v.close()

    def test_a_vault_that_somebody_deletes_is_not_written_any_more(self, server):  # noqa: F811
        url = server.vault()
        with contextlib.closing(vaults.Vault(url)) as v:
            v['a'] = 1
            vaults.Vault(url).delete_vault()
            for change in (lambda: v.put('a', 2), lambda: v.update(a=2), v.clear):
                with pytest.raises(vaults.VaultNotFoundError, match='deleted by somebody'):
                    change()
            with contextlib.closing(vaults.Vault(url)) as new:
                assert new == {}


@pytest.mark.skipif(shutil.which('openssl') is None, reason='no openssl makes a certificate here')
class TestPostgreSQLLogin:
    """TLS, passwords and services are libpq's: what it finds by itself, a vault is opened with."""

    @pytest.fixture
    def ann(self, guarded, tmp_path, monkeypatch):
        """Where ann finds the server: what libpq reads is her own, and says nothing yet."""
        for name in [name for name in os.environ if name.startswith('PG')]:
            monkeypatch.delenv(name)
        monkeypatch.setenv('PGPASSFILE', str(tmp_path / 'pgpass'))
        monkeypatch.setenv('PGSERVICEFILE', str(tmp_path / 'services'))
        return f'localhost:{guarded.port}/app'

    def test_a_password_in_the_url_lets_in_and_is_shown_nowhere(self, guarded, ann):
        with contextlib.closing(vaults.Vault(f'postgresql://ann:sEcr3t%2F%40%3A1@{ann}?vault=a')) as v:
            v['a'] = 1
            assert guarded.sql("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'ann'") == [(True,)]
            assert 'sEcr3t' not in f'{v!r}{v.db_path}{v._store.describe()}{pickle.dumps(v)!r}'
        for wrong in (f'postgresql://ann:sEcr3t%2F%40%3A2@{ann}?vault=a', f'postgresql://ann@{ann}?vault=a',
                      f'postgresql://ann:sEcr3t%2F%40%3A1@{ann}?vault=a&sslmode=disable'):
            error, text = raised(lambda wrong=wrong: vaults.Vault(wrong))
            assert type(error) is vaults.VaultUnreachableError and 'sEcr3t' not in text and '.pgpass' in str(error)

    def test_a_password_file_and_a_service_are_read(self, guarded, ann, tmp_path, monkeypatch):
        (tmp_path / 'pgpass').write_text(f'localhost:{guarded.port}:app:ann:{PASSWORD_OF_ANN}'.replace('@:1', '@\\:1') + '\n')
        (tmp_path / 'pgpass').chmod(0o600)
        with contextlib.closing(vaults.Vault(f'postgresql://ann@{ann}?vault=b')) as v:
            v['a'] = 1
            with contextlib.closing(pickle.loads(pickle.dumps(v))) as again:
                assert again['a'] == 1
        (tmp_path / 'services').write_text(f'[app]\nhost=localhost\nport={guarded.port}\ndbname=app\nuser=ann\n')
        with contextlib.closing(vaults.Vault('postgresql:///?service=app&vault=b')) as v:
            assert v == {'a': 1}
        monkeypatch.setenv('PGSERVICE', 'app')
        with contextlib.closing(vaults.Vault('postgresql:///?vault=b')) as v:
            assert v == {'a': 1}
        vaults.set_root_path('postgresql:///')
        assert vaults.Vault('b', flag='r')['a'] == 1

    def test_who_the_server_is_can_be_asked_for(self, guarded, ann, tmp_path):
        known = guarded.data / 'certificate.pem'
        shutil.copy(known, tmp_path / 'known.pem')
        url = f'postgresql://ann:sEcr3t%2F%40%3A1@{ann}?vault=c&sslmode=verify-full&sslrootcert={tmp_path}'
        with contextlib.closing(vaults.Vault(f'{url}/known.pem')) as v:
            v['a'] = 1
        with pytest.raises(vaults.VaultUnreachableError, match='root certificate file .* does not exist'):
            vaults.Vault(f'{url}/none.pem')
        with pytest.raises(vaults.VaultUnreachableError, match='does not match host name "127.0.0.1"'):
            vaults.Vault(f'{url}/known.pem'.replace('localhost', '127.0.0.1'))


class TestPostgreSQLPage:
    def test_the_programs_and_commands_of_the_page_run_as_they_stand(self, server, root, monkeypatch):  # noqa: F811
        with contextlib.suppress(Exception):
            server.sql('CREATE DATABASE app')
        for name, value in (('PGHOST', '127.0.0.1'), ('PGPORT', str(server.port)), ('PGUSER', 'vaults')):
            monkeypatch.setenv(name, value)
        ran = 0
        for _, section in sections(ON_A_SERVER):
            for language, block in blocks(section):
                if language == 'python':
                    done = run(block, cwd=str(root))
                    assert done.returncode == 0, block + done.stderr
                    assert_shown(block, done.stdout)
                elif language == 'sh' and not installs(block) and shutil.which('bash'):
                    done = shell(block, root)
                    assert done.returncode == 0, block + done.stderr
                    assert done.stdout.splitlines()[0].split()[0] == 'notes'
                ran += 1
        assert ran >= 4 and (root / 'notes.db').exists()


class TestPostgreSQLTrips:
    """What reads and writes at once is one trip, or two, and waits only for what it must."""

    def test_a_default_is_set_in_one_trip_and_a_value_popped_in_two(self, database, monkeypatch):
        from vaults.stores.postgresql.wire import Wire
        asked = []
        for name, real in (('ask', Wire.ask), ('run', Wire.run)):
            monkeypatch.setattr(Wire, name, lambda *given, real=real: asked.append(given) or real(*given))
        with contextlib.closing(vaults.Vault(f'{database}?vault=trips', flag='n')) as v:
            v.list('list').append(1)
            for act, result, trips in (
                    (lambda: v.setdefault('a', [1]), [1], 1), (lambda: v.setdefault('a', 2), [1], 1), (lambda: v.setdefault('b'), None, 1),
                    (lambda: v.setdefault('b', 1), None, 1), (lambda: v.pop('a'), [1], 2), (lambda: v.pop('a', 3), 3, 1),
                    (lambda: v.pop('b', 3), None, 2)):
                asked.clear()
                assert (act(), len(asked)) == (result, trips)
            with v:
                asked.clear()
                assert v.setdefault('c', 1) == v.setdefault('c', 2) == v.pop('c') == 1 and len(asked) == 2 + 1 + 2
            assert v.pop('list') == [1] and v == {} and len(v) == 0 and v.check() == []

    @pytest.mark.parametrize('by_rows', [False, True], ids=['advisory locks', 'row locks'])
    def test_where_there_is_a_value_it_waits_for_nobody_and_else_it_sees_what_was_put_meanwhile(self, server, database, by_rows):  # noqa: F811
        from vaults.stores.postgresql.opening import open_vault
        found = []
        with contextlib.ExitStack() as stack:
            v, other = [stack.enter_context(contextlib.closing(vaults.Vault(store=open_vault(f'{database}?vault=waits', Options(flag, 30), by_rows))))
                        for flag in 'nw']
            v['a'] = 1
            thread = threading.Thread(target=lambda: found.append(other.setdefault('b', 'late')))
            with v:
                v['b'] = 'first'
                assert other.setdefault('a', 2) == 1
                thread.start()
                servers.wait_for(lambda: server.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")[0][0])
            thread.join(60)
            assert found == ['first'] and v == {'a': 1, 'b': 'first'} and len(v) == 2 and v.check() == []


class TestPostgreSQLWalks:
    @pytest.mark.parametrize('sizes', [[60] * 9000, [600] * 5000, [40_000] * 60, [3_000_000] * 3,
                                       [*[60] * 70, 2_000_000, *[9] * 3000, 700, 1_500_000, 1_500_000, *[20] * 2000]],
                             ids=['small', 'middling', 'large', 'huge', 'mixed'])
    def test_a_page_has_a_megabyte_or_one_entry_and_few_trips_are_made(self, database, sizes):
        with contextlib.closing(vaults.Vault(f'{database}?vault=walks', flag='n')) as v:
            store, asked = v._store, []
            store.put_many((number, b'x' * size) for number, size in enumerate(sizes))
            store.read, read = lambda *given: asked.append(given) or read(*given), store.read
            for options in ({}, {'by_key': True}, {'low': 0, 'high': 'b'}):
                for reverse in (False, True):
                    del asked[:]
                    pages = [(keys, [len(data) for data in datas]) for keys, datas, _ in store.scan(reverse=reverse, **options)]
                    found = [entry for keys, lengths in pages for entry in zip(keys, lengths)]
                    assert found == [*enumerate(sizes)][::-1 if reverse else 1], (options, reverse)
                    assert all(sum(lengths) <= 1 << 20 or len(lengths) == 1 for _, lengths in pages), (options, reverse)
                    assert len(asked) <= 20 + sum(sizes) / 300_000, (options, reverse)


class TestPostgreSQLTables:
    """What is persisted is never given another meaning."""

    def test_the_bytes_of_keys_and_their_flags(self, server):  # noqa: F811
        from zlib import crc32
        store = opened_new(server)
        for key, packed in (('aé', '0161c3a9'), (b'\x04\x01', '020401'), (1, '0001810100'), (True, '0001810100'), (0, '00018000'),
                            (-1.5, '00017efefec01fffffffffffff')):
            store.put(key, b'value')
            rows = server.sql('SELECT encode(key, \'hex\'), crc, value FROM vaults.entries WHERE vault = %s ORDER BY position DESC LIMIT 1',
                              store.number)
            flag = {bool: 1 << 32, float: 1 << 33}.get(type(key), 0)
            assert rows == [(packed, crc32(b'value', crc32(bytes.fromhex(packed))) | flag, b'value')]
            store.delete_range()
        store.put_chunks(b'owner-of-one', [(7, b'data')])
        store.put_owner('a', b'header of owner-of-one')
        assert server.sql('SELECT crc >> 32 FROM vaults.entries WHERE vault = %s', store.number) == [(4,)]
        assert server.sql('SELECT owner, number, crc, data FROM vaults.parts WHERE vault = %s', store.number) == [
            (b'owner-of-one', 7, crc32(b'data', crc32(b'owner-of-one' + bytes(7) + b'\7')), b'data')]
        assert server.sql('SELECT DISTINCT format FROM vaults.vaults') == [(1,)]
        store.close()

    def test_a_key_that_no_index_takes_is_refused(self, server):  # noqa: F811
        store = opened_new(server)
        with contextlib.closing(vaults.Vault(store=store)) as v:
            v['x' * 2599] = 1
            for put in (lambda: v.put('x' * 2600, 1), lambda: v.update({'a': 1, 'y' * 3000: 2}), lambda: v.list('z' * 3000).append(1)):
                with pytest.raises(vaults.SerializationError, match='at most 2600 bytes'):
                    put()
            assert len(v) == 1 and 'x' * 2600 not in v and v.get('y' * 100_000) is None
            with v:
                with pytest.raises(vaults.SerializationError):
                    v['x' * 2600] = 1
                v['b'] = 1  # the block goes on
            assert len(v) == 2

    def test_a_value_that_no_row_takes_is_refused(self, server, monkeypatch):  # noqa: F811
        from vaults.stores.postgresql import forms
        monkeypatch.setattr(forms, 'MOST_OF_VALUE', 1000)
        with contextlib.closing(vaults.Vault(store=opened_new(server))) as v:
            v['a'] = b'x' * 900
            for put in (lambda: v.put('a', b'x' * 1001), lambda: v.update(b=1, a=b'x' * 1001)):
                with pytest.raises(vaults.SerializationError, match='at most 1000 bytes.*stream'):
                    put()
            assert v == {'a': b'x' * 900}

    def test_a_program_with_many_open_files_connects(self, server, root):  # noqa: F811
        resource = pytest.importorskip('resource')
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = 2000 if before[1] == resource.RLIM_INFINITY else min(2000, before[1])
        if most < 1200:
            pytest.skip('a process may not have that many files here')
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, before[0]), before[1]))
        handles = []
        try:
            with open(root / 'file', 'wb') as file:
                while not handles or handles[-1] < 1100:
                    handles.append(os.dup(file.fileno()))
            with contextlib.closing(vaults.Vault(server.vault())) as v:
                v['a'] = 1
                assert v['a'] == 1
        finally:
            for handle in handles:
                os.close(handle)
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    def test_what_is_damaged_is_not_returned(self, server):  # noqa: F811
        store = opened_new(server)
        for key in ('good', 'bad'):
            store.put(key, b'value')
        store.put_chunks(b'owner-of-one', [(1, b'data'), (2, b'data')])
        store.put_owner('parted', b'header of owner-of-one')
        server.sql("UPDATE vaults.entries SET value = 'valuE' WHERE vault = %s AND key = %s", store.number, b'\1bad')
        server.sql("UPDATE vaults.parts SET data = 'datA' WHERE vault = %s AND number = 2", store.number)
        for read in (lambda: store.get('bad'), lambda: list(store.scan()), lambda: list(store.scan(by_key=True)), lambda: store.glance('bad', 9),
                     lambda: store.get_many(['good', 'bad']), lambda: store.get_both('bad', b'owner-of-one', 1)):
            with pytest.raises(vaults.VaultCorruptError, match="'bad' is damaged"):
                read()
        for read in (lambda: store.get_chunk(b'owner-of-one', 2), lambda: store.get_chunks(b'owner-of-one', [1, 2]),
                     lambda: store.get_both('parted', b'owner-of-one', 2)):
            with pytest.raises(vaults.VaultCorruptError, match='chunk 2 of .* is damaged'):
                read()
        assert store.get('good') == b'value' and store.get_chunk(b'owner-of-one', 1) == b'data'
        problem, = store.check(lambda key, data: None)
        assert "'bad' is damaged" in problem
        server.sql("UPDATE vaults.entries SET key = '\\x0102ff' WHERE vault = %s AND key = %s", store.number, b'\1bad')
        with pytest.raises(vaults.VaultCorruptError, match='a stored key is damaged'):
            list(store.scan())
        store.close()

    def test_a_wrong_count_is_found_and_put_right(self, server):  # noqa: F811
        store = opened_new(server)
        store.put_many([('a', b'1'), ('b', b'2')])
        server.sql('UPDATE vaults.tallies SET entries = entries + 1 WHERE vault = %s AND slot = 3', store.number)
        assert store.count() == 3 and store.check(lambda key, data: None) == [
            '2 entries are there but 3 are counted: compact() counts anew']
        store.compact()
        assert store.count() == 2 and store.check(lambda key, data: None) == []
        store.close()

    def test_many_keys_are_looked_for_in_few_statements(self, server, monkeypatch):  # noqa: F811
        from vaults.stores.postgresql.wire import Wire
        store = opened_new(server)
        store.put_many((number, b'%d' % number) for number in range(0, 150_000, 2))
        asked, ask = [], Wire.ask
        monkeypatch.setattr(Wire, 'ask', lambda *arguments: asked.append(arguments[1]) or ask(*arguments))
        assert list(store.get_many(range(150_000))) == [b'%d' % number if number % 2 == 0 else None for number in range(150_000)]
        assert len(asked) <= 3
        assert list(store.contains_many([1, 2, 2.0, 'x'])) == [False, True, True, False] and store.get_many([]) == []
        del asked[:]
        assert sum(store.delete_many(range(150_000))) == 75_000 and store.count() == 0 and len(asked) <= 4
        store.put_many([('a', b''), ('b', b'')])
        assert list(store.delete_many(['a', 'c', 'a'])) == [True, False, False] and store.count() == 1
        store.close()

    def test_a_backup_is_a_vault_of_sqlite_with_all_that_there_was(self, server, root):  # noqa: F811
        with contextlib.closing(vaults.Vault(server.vault())) as v:
            v.update({'a': 1, True: [2], 1.5: None, ('log', 2026): {'x': b'y'}, 7: 'seven', 2.0: 'two'})
            v.list('list').extend(range(5000))
            with v.open('stream', 'wb') as file:
                file.write(bytes(range(256)) * 10_000)
            v.move_to_end('a')
            v.move_to_end(7, last=False)
            done = []
            v.backup(root / 'copy.db', progress=lambda *numbers: done.append(numbers))
            assert done[-1] == (8, 8)
            with pytest.raises(vaults.VaultError, match='a file at'):
                v.backup(root / 'copy.db')
            with v, pytest.raises(vaults.VaultError, match='inside a transaction'):
                v.backup(root / 'other.db')
            with contextlib.closing(vaults.Vault(root / 'copy.db')) as copy:
                assert [*map(repr, copy)] == [*map(repr, v)] and copy == v and copy.check() == []
                assert copy['list'] == v['list'] and copy['stream'] == v['stream']
                assert list(copy._store.chunk_owners()) == list(v._store.chunk_owners())

    def test_a_backup_is_of_one_state_and_keeps_nobody_out(self, server, root):  # noqa: F811
        with contextlib.closing(vaults.Vault(server.vault())) as v:
            v.update((number, 'x' * 1000) for number in range(5000))

            def write(done, total):
                if done == 1:
                    in_thread(lambda: v.update({'later': 1, 4999: 'changed'}))
            v.backup(root / 'copy.db', progress=write)
            with contextlib.closing(vaults.Vault(root / 'copy.db')) as copy:
                assert v[4999] == 'changed' and copy[4999] == 'x' * 1000 and 'later' not in copy and len(copy) == 5000


def opened_new(server):  # noqa: F811
    """Return the store of a new vault."""
    from vaults.stores.postgresql.opening import open_vault
    return open_vault(server.vault())


# --- what a vault promises, on a server ---------------------------------------------------------------------------

def new_store(**options):
    """Return the store of a new vault in the database that all tests share; skip the test where there is no server."""
    try:
        url = servers.postgres().vault()
    except servers.MissingServerError as missing:
        pytest.skip(str(missing))
    from vaults.stores.postgresql.opening import open_vault
    store = open_vault(url, Options(**options))
    store.__class__ = type('TrustedStore', (type(store),), {'sources': ()})  # nobody else writes it: values may be pickled
    return store


def on_postgresql(tests, **sizes):
    """Return a class with the tests over the plain engine, on PostgreSQL."""
    return type(tests.__name__.replace('ThePlainEngine', 'PostgreSQL'), (tests,), {
        'make_engine': staticmethod(new_store), '__module__': __name__, **sizes})


TestDictOverPostgreSQL = on_postgresql(engines.TestDictOverThePlainEngine)
TestViewsOverPostgreSQL = on_postgresql(engines.TestViewsOverThePlainEngine)
TestWalksOverPostgreSQL = on_postgresql(engines.TestWalksOverThePlainEngine)
TestSlicesOverPostgreSQL = on_postgresql(engines.TestSlicesOverThePlainEngine)
TestTransactionsOverPostgreSQL = on_postgresql(engines.TestTransactionsOverThePlainEngine)
TestListsOverPostgreSQL = on_postgresql(engines.TestListsOverThePlainEngine, LONG=100)
TestColumnsOverPostgreSQL = on_postgresql(engines.TestColumnsOverThePlainEngine)
TestSectionsOverPostgreSQL = on_postgresql(engines.TestSectionsOverThePlainEngine)
TestStreamsOverPostgreSQL = on_postgresql(engines.TestStreamsOverThePlainEngine, APPENDED=60)
TestHolesOverPostgreSQL = on_postgresql(engines.TestHolesOverThePlainEngine)
