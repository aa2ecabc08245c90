"""Vaults in one file on a server: what becomes of it when the server is lost, and who may write it."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

import vaults
from vaults import Vault
from vaults.stores import jsonfile
from vaults.stores.base import Options
from vaults.stores.jsonfile import holder, remote
from vaults.stores.jsonfile import server as server_side

from .ftp import PASSWORD
from .helpers import LINUX, in_child, needs_fork
from .jsonfile import started, text_of


class TestFilesOnAServer:
    """Over FTP as well the file is whole, whatever happens to the server, and nobody's work is overwritten."""

    @pytest.fixture
    def url(self, own_ftp):
        return 'json+' + own_ftp.url('notes.json')

    def test_it_is_written_and_read(self, own_ftp, url):
        with contextlib.closing(Vault(url)) as v:
            v.update({'a': 1, ('x', 2): b'y' * 300_000})
            v.list('l').extend(range(1000))
            assert sorted(os.listdir(own_ftp.folder)) == ['notes.json', 'notes.json.lock']
            v.sync()
            with contextlib.closing(Vault(url, flag='r')) as reader:
                assert reader == v
        assert os.listdir(own_ftp.folder) == ['notes.json'] and json.loads(text_of(own_ftp.folder / 'notes.json'))['a'] == 1
        with contextlib.closing(Vault(url)) as v:
            assert v['x', 2] == b'y' * 300_000 and len(v['l']) == 1000
        v.delete_vault()
        assert os.listdir(own_ftp.folder) == []

    @pytest.mark.parametrize('when', ['0', '100000', '5000000', 'before renaming'])
    def test_a_server_killed_in_the_middle_leaves_the_old_file(self, own_ftp, url, when):
        v = Vault(url, timeout=2)
        v['a'] = 1
        v.sync()
        v['b'] = 'x' * 6_000_000
        before = text_of(own_ftp.folder / 'notes.json')
        own_ftp.start(when)
        with pytest.raises((vaults.VaultUnreachableError, vaults.VaultUnsureError)) as raised:
            v.sync()
        assert (type(raised.value) is vaults.VaultUnsureError) == (when == 'before renaming')
        assert text_of(own_ftp.folder / 'notes.json') == before and v['b'] == 'x' * 6_000_000
        with pytest.raises(vaults.VaultUnreachableError):
            v.sync()
        own_ftp.start()
        v.sync()
        assert json.loads(text_of(own_ftp.folder / 'notes.json')) == {'a': 1, 'b': 'x' * 6_000_000}
        v.close()
        assert os.listdir(own_ftp.folder) == ['notes.json']

    def test_a_block_that_a_server_is_killed_in_is_undone(self, own_ftp, url):
        with contextlib.closing(Vault(url, timeout=2)) as v:
            v['a'] = 1
            own_ftp.start('5')
            with pytest.raises(vaults.VaultUnreachableError), v:
                v['b'] = 2
            assert v == {'a': 1}
            own_ftp.start()
        assert json.loads(text_of(own_ftp.folder / 'notes.json')) == {'a': 1}

    def test_nobody_can_tell_when_the_answer_is_lost_and_writing_again_is_right(self, own_ftp, url):
        with contextlib.closing(Vault(url, timeout=2)) as v:
            own_ftp.start('after renaming')
            with pytest.raises(vaults.VaultUnsureError, match='nobody can tell'), v:
                v['a'] = 1
            assert v == {} and json.loads(text_of(own_ftp.folder / 'notes.json')) == {'a': 1}
            own_ftp.start()
            assert v.check() == []
            v.sync()
            assert text_of(own_ftp.folder / 'notes.json') == '{}\n'
            v['b'] = 2
            v.sync()
            assert json.loads(text_of(own_ftp.folder / 'notes.json')) == {'b': 2}

    def test_what_was_written_although_the_answer_was_lost_is_found_out(self, own_ftp, url, monkeypatch):
        with contextlib.closing(Vault(url)) as v:
            settle = remote.RemoteFile._settle
            monkeypatch.setattr(remote.RemoteFile, '_settle', lambda self, *said: own_ftp.start() or settle(self, *said))
            own_ftp.start('after renaming')
            v['a'] = 1
            v.sync()
            assert json.loads(text_of(own_ftp.folder / 'notes.json')) == {'a': 1}

    def test_a_server_that_does_not_replace_by_renaming_is_found_out(self, own_ftp, url):
        v = Vault(url)
        v['a'] = 1
        own_ftp.start('no replacing')
        with pytest.raises(vaults.VaultFullError, match='replaces a file by renaming'):
            v.sync()
        assert text_of(own_ftp.folder / 'notes.json') == '{}\n'
        own_ftp.start()
        v.close()

    def test_a_server_that_is_not_there_or_does_not_answer(self, own_ftp, url):
        own_ftp.stop()
        with pytest.raises(vaults.VaultUnreachableError, match='refused'):
            Vault(url)
        with contextlib.closing(socket.socket()) as silent:
            silent.bind(('127.0.0.1', 0))
            silent.listen()
            began = time.monotonic()
            with pytest.raises(vaults.VaultUnreachableError, match='timed out'):
                Vault(f'json+ftp://127.0.0.1:{silent.getsockname()[1]}/x.json', timeout=0)
            assert time.monotonic() - began < 4
        with pytest.raises(vaults.VaultUnreachableError):
            Vault('json+ftp://nowhere.invalid/x.json', timeout=1)

    def test_a_wrong_password_and_none_are_told_and_no_password_is(self, own_ftp, url, caplog):
        for secret in ('wr0ng', 'wr0ng@x'):
            with pytest.raises(vaults.VaultUnreachableError, match='user and password') as raised:
                Vault('json+' + own_ftp.url('x.json', f'ann:{secret}'), timeout=5)
            assert 'wr0ng' not in str(raised.value) + repr(raised.value.__cause__)
        with pytest.raises(vaults.VaultUnreachableError):
            Vault('json+' + own_ftp.url('x.json', 'ann'), timeout=5)
        with contextlib.closing(Vault(url, timeout=0)) as v:
            v['a'] = 1
            v.sync()
            lock = (own_ftp.folder / 'notes.json.lock' / 'holder.json').read_text()
            with pytest.raises(vaults.VaultBusyError) as raised:
                Vault(url, timeout=0)
            assert not any(PASSWORD in text for text in (lock, str(raised.value), v._store.name, caplog.text))

    def test_what_a_server_says_of_a_password_is_left_out(self):
        place = remote.RemoteFile('ftp://ann:p%40ss@host/x.json', 'shown', 1)
        assert place._said(OSError('p@ss is not p%40ss')) == '... is not ...' and place._said(EOFError()) == 'EOFError'
        with pytest.raises(vaults.VaultUnreachableError) as raised:
            Vault('json+ftp://ann:s3cr/et@127.0.0.1/x.json', timeout=0)
        assert 's3cr' not in str(raised.value)

    def test_a_place_that_may_not_be_read_is_none_that_is_empty(self, own_ftp, url):
        path = own_ftp.folder / 'notes.json'
        path.mkdir()  # which is as a file that the server does not give: reading it is answered as if there were none
        with pytest.raises(vaults.VaultError, match='cannot be read'):
            Vault(url, timeout=1)
        with pytest.raises(vaults.VaultFullError, match='the folder is there'):
            Vault('json+' + own_ftp.url('no/notes.json'), timeout=1)
        assert sorted(os.listdir(own_ftp.folder)) == ['notes.json']

    def test_an_answer_that_is_no_no_does_not_begin_a_vault_anew(self, own_ftp, url, caplog):
        (own_ftp.folder / 'notes.json').write_text('{"a": 1}')
        own_ftp.start('busy')
        for flag in 'rcn':
            with pytest.raises(vaults.VaultUnreachableError, match='450 Try again'):
                Vault(url, timeout=1, flag=flag)
        assert text_of(own_ftp.folder / 'notes.json') == '{"a": 1}' and 'could not be given back' in caplog.text
        own_ftp.start()
        with contextlib.closing(Vault(url, timeout=0)) as v:  # with the lock that was left here
            assert v == {'a': 1}
        assert os.listdir(own_ftp.folder) == ['notes.json']

    def test_a_vault_that_is_closed_without_its_server_has_nothing_to_say_but_of_its_lock(self, own_ftp, url, caplog):
        v = Vault(url, timeout=0)
        own_ftp.stop()
        v.close()
        assert 'notes.json.lock could not be given back' in caplog.text and PASSWORD not in caplog.text

    def test_a_lock_that_is_given_back_as_it_is_met_is_made(self, own_ftp, url, monkeypatch):
        lock, real = own_ftp.folder / 'notes.json.lock', server_side.is_there
        lock.mkdir()

        def late(fs, path):
            if path.endswith('.lock') and lock.exists():
                lock.rmdir()
            return real(fs, path)
        monkeypatch.setattr(server_side, 'is_there', late)
        Vault(url, timeout=0).close()
        assert os.listdir(own_ftp.folder) == ['notes.json']

    def test_what_comes_and_goes_is_seen_in_one_connection(self, own_ftp, url):
        with remote.RemoteFile(url.partition('+')[2], 'shown', 1)._connected() as (fs, path):
            seen = [server_side.is_there(fs, path)]
            (own_ftp.folder / 'notes.json').touch()
            seen.append(server_side.is_there(fs, path))
        assert seen == [False, True]

    def test_a_lock_that_cannot_be_signed_is_not_left(self, own_ftp, url, monkeypatch):
        def fail(fs, path, data):
            raise PermissionError(13, 'not here')
        monkeypatch.setattr(server_side, 'upload', fail)
        with pytest.raises(vaults.VaultFullError, match='not here'):
            Vault(url, timeout=0)
        assert os.listdir(own_ftp.folder) == []

    def test_a_lock_that_another_has_taken_over_meanwhile_is_left_to_it(self, own_ftp, url, monkeypatch):
        lock, gone = own_ftp.folder / 'notes.json.lock', subprocess.Popen([sys.executable, '-c', ''])
        gone.wait()
        mine = holder.this_process()
        lock.mkdir()
        (lock / 'holder.json').write_bytes(holder.packed_holder(holder.Holder(mine.user, gone.pid, mine.host, mine.system, mine.since, 'old')))
        make = remote.make_lock

        def late(fs, path, me):
            if path.endswith('.old'):  # the right to take it over, which somebody else has had before, and used
                (lock / 'holder.json').write_bytes(holder.packed_holder(mine))
            return make(fs, path, me)
        monkeypatch.setattr(remote, 'make_lock', late)
        with pytest.raises(vaults.VaultBusyError, match='this program'):
            Vault(url, timeout=0)
        assert holder.read_holder((lock / 'holder.json').read_bytes()).token == mine.token and os.listdir(own_ftp.folder) == ['notes.json.lock']

    def test_a_second_writer_a_changed_file_and_a_reader(self, own_ftp, url):
        with contextlib.closing(Vault(url)) as v:
            with pytest.raises(vaults.VaultBusyError, match='this program'):
                Vault(url, timeout=0.2)
            (own_ftp.folder / 'notes.json').write_text('{"theirs": 1}')
            v['a'] = 1
            with pytest.raises(vaults.VaultError, match='somebody else has changed'):
                v.sync()
            with contextlib.closing(Vault(url, flag='r')) as reader:
                assert reader == {'theirs': 1}
            (own_ftp.folder / 'notes.json').unlink()
        assert json.loads(text_of(own_ftp.folder / 'notes.json')) == {'a': 1}

    def test_the_lock_of_another_system_stays_and_that_of_a_killed_process_is_taken_over(self, own_ftp, url):
        child = started('import sys, vaults; v = vaults.Vault(sys.argv[1]); print(1, flush=True); input()', url)
        child.stdout.readline()
        with pytest.raises(vaults.VaultBusyError, match=f'process {child.pid} on'):
            Vault(url, timeout=0)
        child.kill()
        child.communicate()
        lock = own_ftp.folder / 'notes.json.lock' / 'holder.json'
        dead = holder.read_holder(lock.read_bytes())
        lock.write_bytes(holder.packed_holder(holder.Holder(dead.user, dead.process, 'far', dead.system, dead.since, dead.token)))
        with pytest.raises(vaults.VaultBusyError, match=r'on far.*remove json\+ftp://ann@127.*\.lock'):
            Vault(url, timeout=0)
        if LINUX:
            lock.write_bytes(holder.packed_holder(dead))
            Vault(url, timeout=0).close()
            assert os.listdir(own_ftp.folder) == ['notes.json']

    def test_a_program_on_the_server_itself_and_one_elsewhere_keep_each_other_out(self, own_ftp, url):
        here = 'json+' + (own_ftp.folder / 'notes.json').as_uri()
        with contextlib.closing(Vault(url)), pytest.raises(vaults.VaultBusyError, match='this program'):
            Vault(here, timeout=0)
        child = started('import sys, vaults; v = vaults.Vault(sys.argv[1]); print(1, flush=True); input()', here)
        child.stdout.readline()
        with pytest.raises(vaults.VaultBusyError, match=f'process {child.pid} on'):
            Vault(url, timeout=0)
        child.kill()
        child.communicate()
        assert (own_ftp.folder / 'notes.json.lock').is_file()
        if LINUX:
            Vault(url, timeout=0).close()
            assert os.listdir(own_ftp.folder) == ['notes.json']

    @pytest.mark.skipif(not LINUX, reason='only there it is known which processes are gone')
    def test_of_many_that_take_a_lock_over_one_has_it_at_a_time(self, own_ftp, url):
        Vault(url).close()
        gone = subprocess.Popen([sys.executable, '-c', ''])
        gone.wait()
        mine = holder.this_process()
        lock = own_ftp.folder / 'notes.json.lock'
        lock.mkdir()
        (lock / 'holder.json').write_bytes(holder.packed_holder(
            holder.Holder(mine.user, gone.pid, mine.host, mine.system, mine.since, 'token')))
        program = '''
            import sys, vaults
            v = vaults.Vault(sys.argv[1], timeout=60)
            v['n'] = v.get('n', 0) + 1
            v.close()
            '''
        children = [started(program, url) for _ in range(5)]
        assert [child.communicate()[1] for child in children] == [''] * 5
        assert json.loads(text_of(own_ftp.folder / 'notes.json')) == {'n': 5} and os.listdir(own_ftp.folder) == ['notes.json']

    def test_a_lock_that_is_not_ours_any_more_is_neither_written_under_nor_given_back(self, own_ftp, url):
        v = Vault(url)
        v['a'] = 1
        shutil.rmtree(own_ftp.folder / 'notes.json.lock')
        with pytest.raises(vaults.VaultError, match='not the one that was taken'):
            v.sync()
        with contextlib.closing(Vault(url)) as other:
            with pytest.raises(vaults.VaultError, match='not the one that was taken'):
                v.sync()
            v._close(False)
            other['b'] = 2
            other.sync()
        assert json.loads(text_of(own_ftp.folder / 'notes.json')) == {'b': 2}

    @needs_fork
    def test_a_forked_child_leaves_the_lock_to_its_parent(self, own_ftp, url):
        with contextlib.closing(Vault(url)) as v:
            v['a'] = 1
            assert in_child(lambda: (v.close(), sorted(os.listdir(own_ftp.folder)))[1]).answer() == ['notes.json', 'notes.json.lock']
            v.sync()
        assert json.loads(text_of(own_ftp.folder / 'notes.json')) == {'a': 1} and os.listdir(own_ftp.folder) == ['notes.json']

    def test_objects_are_put_whole_and_locked_by_one_that_is_not_replaced(self):
        pytest.importorskip('fsspec')
        url = 'json+memory://bucket/notes.json'
        with contextlib.closing(Vault(url)) as v:
            v['a'] = 1
            with pytest.raises(vaults.VaultBusyError, match='this program'):
                Vault(url, timeout=0)
            v.sync()
            with contextlib.closing(Vault(url, flag='r')) as reader:
                assert reader == {'a': 1}
        v.delete_vault()
        assert jsonfile.names('json+memory://bucket', Options()) == []
