"""Vaults by URL: as names, as roots, in the command, and passwords that are never shown."""
from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import re
import shutil
import subprocess
import sys

import pytest

import vaults
from vaults import Vault, moving, recovery, stores
from vaults.cli.arguments import ARGUMENTS
from vaults.cli.commands import COMMANDS
from vaults.cli.completion import script

from .helpers import HERE, output

# An engine of another package: files of SQLite in a folder, behind a password.
BOX = '''
import os
from urllib.parse import quote, unquote, urlsplit
import vaults
from vaults.stores.sqlite.opening import open_store as open_file

def split(url):
    parts = urlsplit(url)
    if (parts.password or os.environ.get('BOX_PASSWORD')) != 'secret':
        raise vaults.VaultUnreachableError(f'{parts.hostname} does not let {parts.username} in')
    return unquote(parts.path), unquote(parts.query)

def open_store(target, options):
    folder, name = split(target)
    return open_file(os.path.join(folder, name.replace('/', '|') + '.box'), *options[:4])

named = open_store.named = lambda root, name: f"{root.rstrip('/')}?{quote(name, '')}"

def names(root, options):
    return [name[:-4].replace('|', '/') for name in os.listdir(split(root)[0]) if name.endswith('.box')]

open_store.names = names

def plain(target, options):
    return open_store(target.replace('plain', 'box', 1), options)

def misled(target, options):
    raise NotImplementedError

misled.named = lambda root, name: '/etc/passwd'
'''


@pytest.fixture
def boxes(tmp_path, monkeypatch):
    """Register the engine, and return a root of it, with a password."""
    package = tmp_path / 'package'
    (package / 'boxes-1.0.dist-info').mkdir(parents=True)
    (package / 'boxes-1.0.dist-info' / 'METADATA').write_text('Metadata-Version: 2.1\nName: boxes\nVersion: 1.0\n')
    (package / 'boxes-1.0.dist-info' / 'entry_points.txt').write_text(
        '[vaults.stores]\nbox = boxes:open_store\nplain = boxes:plain\nmisled = boxes:misled\nmodule = boxes\n')
    (package / 'boxes.py').write_text(BOX)
    (tmp_path / 'kept').mkdir()
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(HERE), str(package)]))
    yield f'box://ann:secret@host{tmp_path}/kept'
    sys.modules.pop('boxes', None)


def hidden(url):
    return url.replace(':secret@', '@')


class TestRootsThatAreURLs:
    """A root may be a URL: then `Vault('notes')` is the vault of that name there."""

    @pytest.mark.parametrize('how', ['set_root_path', 'VAULTS_ROOT'])
    def test_a_name_is_the_vault_of_that_name_there(self, boxes, tmp_path, monkeypatch, how):
        if how == 'set_root_path':
            vaults.set_root_path(boxes)
        else:
            vaults.set_root_path(None)
            monkeypatch.setenv('VAULTS_ROOT', boxes)
        with contextlib.closing(Vault('notes')) as v:
            v['k'] = 1
            assert (v.name, v.db_path) == ('notes', hidden(boxes) + '?notes')
            assert repr(v) == "Vault('notes', 1 item)"
        assert os.listdir(tmp_path / 'kept') == ['notes.box']
        assert Vault(boxes + '?notes').items() == Vault('notes', flag='r').items() == [('k', 1)]
        with pytest.raises(vaults.VaultNotFoundError):
            Vault('other', to_create=False)
        with pytest.raises(vaults.VaultNotFoundError):
            Vault('other', flag='r')
        assert sorted(os.listdir(tmp_path)) == ['kept', 'package', 'vaults'] and os.listdir(tmp_path / 'kept') == ['notes.box']

    def test_names_keep_their_rules_and_odd_ones_are_quoted(self, boxes, tmp_path):
        vaults.set_root_path(boxes)
        odd = ['a b', 'ä?&=#%', "it's", '日本', 'a+b', 'a:b@c']
        for at, name in enumerate(odd):
            with contextlib.closing(Vault(name)) as v:
                v['at'] = at
                assert v.name == name
        assert [Vault(name, flag='r')['at'] for name in odd] == [*range(len(odd))]
        assert sorted(os.listdir(tmp_path / 'kept')) == sorted(f'{name}.box' for name in odd)
        for name in ('', 'a/b', '..', 'a\0b', 'my.db', 'x' * 300):
            with pytest.raises(vaults.VaultValueError):
                Vault(name)

    def test_paths_memory_and_urls_are_what_they_are(self, boxes, tmp_path):
        vaults.set_root_path(boxes)
        assert Vault(tmp_path / 'exact').db_path == str(tmp_path / 'exact') and Vault(':memory:').db_path == ':memory:'
        assert Vault(boxes + '?other').name == hidden(boxes) + '?other'

    @pytest.mark.parametrize('root, said', [
        ('bix://host', 'no engine is known for bix://.* did you mean box://'), ('misled://host', r"named\(\) .*'/etc/passwd'"),
        ('plain://ann:secret@host', r'no named\(\).*plain://ann@host cannot be a root.*Vault\(.plain://'),
        ('nothing-like-it://ann:secret@h', "'nothing-like-it://ann@h': there are :memory:, .*box://"), ('module://host', None)])
    def test_what_is_no_root_is_refused(self, boxes, root, said, monkeypatch):
        if said is None:
            vaults.set_root_path(root + '/tmp')
            return
        with pytest.raises(vaults.VaultError, match=said) as caught:
            vaults.set_root_path(root)
        assert 'secret' not in str(caught.value) and 'test' in Vault('test').db_path  # the root is what it was
        vaults.set_root_path(None)
        monkeypatch.setenv('VAULTS_ROOT', root)
        with pytest.raises(vaults.VaultError, match=said):
            Vault('test')

    def test_a_folder_is_a_root_again(self, boxes, tmp_path):
        vaults.set_root_path(boxes)
        vaults.set_root_path(tmp_path)
        assert Vault('a').db_path == str(tmp_path / 'vaults' / 'a.db')


class TestPasswords:
    """What is shown, sent or kept of a URL has no password in it."""

    @pytest.mark.parametrize('by_name', [True, False])
    def test_a_vault_is_opened_again_without_one_that_would_travel(self, boxes, by_name):
        vaults.set_root_path(boxes)
        v = Vault('notes' if by_name else boxes + '?notes')
        v['k'] = 1
        data = pickle.dumps(v)
        assert b'secret' not in data
        for again in (pickle.loads(data), copy.copy(v), copy.deepcopy(v), pickle.loads(pickle.dumps(v.section('s')))):
            again['more'] = 2
            assert again.pop('more') == 2 and 'more' not in v
            assert 'secret' not in repr(again) + again.db_path + again.name
            again.close()
        v.close()
        program = f'import pickle, vaults; print(pickle.loads({data!r}).items())'
        path = {'PYTHONPATH': os.environ['PYTHONPATH']}
        assert output(program, env={**path, 'BOX_PASSWORD': 'secret'}) == "[('k', 1)]"
        if by_name:  # it is the root's
            assert output(program, env={**path, 'VAULTS_ROOT': boxes}) == "[('k', 1)]"
            assert output(f'import vaults; vaults.set_root_path({boxes!r});' + program, env=path) == "[('k', 1)]"
        with pytest.raises(AssertionError, match='host does not let ann in'):
            output(program, env={**path, 'VAULTS_ROOT': '/'})

    def test_one_that_is_gone_is_said_to_be(self, boxes):
        with contextlib.closing(Vault(boxes + '?notes')) as v:
            data = pickle.dumps(v)
        v.delete_vault()
        with pytest.raises(vaults.VaultNotFoundError, match='was pickled when it was box://ann@host') as caught:
            pickle.loads(data)
        assert 'secret' not in str(caught.value)

    def test_no_error_shows_one(self, boxes, tmp_path):
        v = Vault(boxes + '?notes')
        v['k'] = 1
        v._store.put('bad', b'\xc1')
        said = [str(v), repr(v.section('s')), repr(v.keys()), v.name, v.db_path]
        for act in (lambda: v['bad'], lambda: v.put('k', (x for x in ())), lambda: moving.copy(v, boxes + '?notes'), lambda: moving.copy(v, v),
                    lambda: recovery.recover(boxes + '?notes', 'x'), lambda: moving.read(boxes + '?notes'), lambda: Vault(boxes.replace('box', 'bux')),
                    lambda: moving.copy(v, boxes.replace('box', 'bax') + '?other'), lambda: Vault(boxes.replace(':secret', ':wrong-secret') + '?notes')):
            with pytest.raises((vaults.VaultError, TypeError)) as caught:
                act()
            said.append(str(caught.value))
        v._store.delete('bad')
        v.close()
        with pytest.raises(vaults.VaultClosedError) as caught:
            v['k']
        assert not [text for text in (*said, str(caught.value), repr(v)) if 'secret' in text] and 'box://ann@host' in said[0]


class TestURLsInPlaceOfPaths:
    def test_a_shelf_is_opened_by_url(self, boxes, tmp_path):
        with vaults.open(boxes + '?shelf', 'n') as shelf:
            shelf['k'] = [1]
        with vaults.open(boxes + '?shelf', 'r', writeback=True) as shelf, pytest.raises(vaults.VaultReadOnlyError):
            assert shelf['k'] == [1] and type(shelf) is vaults.Shelf and shelf.db_path == hidden(boxes) + '?shelf'
            shelf['k'] = 2
        assert os.listdir(tmp_path / 'kept') == ['shelf.box']
        with pytest.raises(vaults.VaultNotFoundError):
            vaults.open(boxes + '?none', 'w')

    def test_copies_go_to_and_from_urls(self, boxes, v, tmp_path):
        v.update(a=1)
        v.list('l').extend(range(3000))
        assert moving.copy(v, boxes + '?one') == 2
        vaults.set_root_path(boxes)
        assert moving.copy('one', 'two') == moving.copy(boxes + '?two', tmp_path / 'file') == 2
        assert Vault(tmp_path / 'file').items() == [('a', 1), ('l', v['l'])]
        with pytest.raises(vaults.VaultValueError, match='are one'):
            moving.copy('one', boxes + '?one')
        with Vault('one') as one:
            one._store.put('bad', b'\xd4\x14\x00')
        with pytest.raises(vaults.VaultCorruptError):
            moving.copy('one', 'three')
        assert sorted(os.listdir(tmp_path / 'kept')) == ['one.box', 'one.box-shm', 'one.box-wal', 'two.box']

    def test_where_a_file_is_wanted_a_url_is_refused_with_the_cure(self, boxes, tmp_path):
        url = boxes + '?a'
        Vault(url).close()
        for act in (lambda: moving.read(url), lambda: moving.import_file(Vault(':memory:'), url), lambda: moving.recognise(url)):
            with pytest.raises(vaults.VaultValueError, match='is the URL of a vault.*copy'):
                act()
        for ends in ((url, tmp_path / 'x'), (tmp_path / 'x', url)):
            with pytest.raises(vaults.VaultValueError, match=re.escape(f'{hidden(url)} is a URL: give the path of a file')):
                recovery.recover(*ends)


class TestCommandsWithURLs:
    """The command takes a URL wherever a vault or a root is named."""

    def test_every_command_takes_one(self, command, boxes, tmp_path):
        url = boxes + '?notes'
        (tmp_path / 'file').write_bytes(b'content')
        assert command('set', url, 'k', 'text').out == '' and command('get', url, 'k').out == 'text\n'
        assert command('put', url, 'f', tmp_path / 'file').out == '7 bytes stored\n' and command('get', url, 'f').out == 'content'
        assert command('get', url, 'f', '--output', tmp_path / 'out').status == 0
        assert command('keys', url).out == 'f\nk\n' and command('count', url).out == '2\n' and command('show', url).out.startswith('f  stream')
        assert command('check', url).out == 'sound: 2 entries\n' and command('compact', url).status == 0
        assert command('backup', url, tmp_path / 'backup.db').status == 0 and command('export', url, tmp_path / 'lines').status == 0
        assert command('import', tmp_path / 'lines', boxes + '?imported').out == '2 entries imported, 0 of them replaced earlier ones\n'
        assert command('copy', url, boxes + '?copied').out == f'2 entries copied to {hidden(boxes)}?copied\n'
        assert command('copy', boxes + '?copied', tmp_path / 'copy.db', '--json').out == '{"copied": 2}\n'
        assert command('delete', url, 'k').status == 0 and command('count', url).out == '1\n'
        info = command('info', url)
        assert re.search(f'^path +{re.escape(hidden(url))}$', info.out, re.M) and 'secret' not in info.out and re.search('^entries +1$', info.out, re.M)
        assert json.loads(command('info', url, '--json').out)['path'] == hidden(url)
        assert sorted(os.listdir(tmp_path / 'kept')) == ['copied.box', 'imported.box', 'notes.box']

    def test_every_command_takes_a_root(self, command, boxes, tmp_path, monkeypatch):
        for root in ([], ['--root', boxes]):
            vaults.set_root_path(None)
            if not root:
                monkeypatch.setenv('VAULTS_ROOT', boxes)
            assert command('list', *root).out == ('' if not root else 'a b\ncopy\n')
            assert command('set', 'a b', 'k', 'v', *root).status == 0 and command('get', *root, 'a b', 'k').out == 'v\n'
            assert command('list', *root).out.startswith('a b\n')
            assert command('copy', 'a b', 'copy', '--merge', *root).out == '1 entry copied to copy\n'
            assert command('list', '--json', *root).out == '["a b", "copy"]\n'
            monkeypatch.delenv('VAULTS_ROOT', raising=False)
        assert command('list', '--root', tmp_path).out == ''

    def test_a_name_that_is_none_here_is_listed_by_its_url(self, command, boxes):
        for name in ('a/b', 'x.db', 'plain'):
            Vault(f"{boxes}?{name.replace('/', '%2F')}").close()
        assert command('list', '--root', boxes).out == f'{hidden(boxes)}?a%2Fb\nplain\n{hidden(boxes)}?x.db\n'

    def test_the_shell_says_what_is_open(self, boxes):
        def typed(name):
            return subprocess.run([sys.executable, '-m', 'vaults', 'shell', name], input='print(v, v.db_path)', text=True,
                                  capture_output=True, env={**os.environ, 'VAULTS_ROOT': boxes}).stdout
        assert typed('new') == f"Vault('new', 0 items) {hidden(boxes)}?new\n"

    def test_a_command_that_reads_makes_nothing_and_one_that_fails_leaves_nothing(self, command, boxes, tmp_path):
        for arguments in (['get', boxes + '?none', 'k'], ['keys', boxes + '?none'], ['delete', boxes + '?none', 'k'], ['copy', boxes + '?none', 'x']):
            done = command(*arguments)
            assert done.status == 1 and 'secret' not in done.err and 'no vault' in done.err
        (tmp_path / 'wrong.jsonl').write_text('{"key": "a", "value": 1}\n{"key": ')
        assert command('import', tmp_path / 'wrong.jsonl', boxes + '?new').status == 1
        assert command('put', boxes + '?new', 'k', tmp_path / 'none').status == 1
        assert os.listdir(tmp_path / 'kept') == []
        command('set', boxes + '?old', 'k', 'v')
        assert command('import', tmp_path / 'wrong.jsonl', boxes + '?old').status == 1
        assert command('get', boxes + '?old', 'k').out == 'v\n'

    def test_bad_urls_and_roots_are_errors_in_one_line(self, command, boxes, tmp_path):
        for arguments, said in [
                (['get', boxes.replace('box', 'bpx'), 'k'], 'no engine is known for bpx://'), (['list', '--root', 'plain://ann:secret@host'], 'no names()'),
                (['set', 'x', 'k', 'v', '--root', 'plain://ann:secret@host'], 'no named()'), (['get', 'a', 'k', '--root', 'bux://h'], 'did you mean box://'),
                (['list', '--root', boxes.replace('secret', 'secret2')], 'does not let ann in'), (['keys', boxes.replace('secret', 'secret2')], 'does not let ann in')]:
            done = command(*arguments)
            assert done.status in (1, 2) and said in done.err and done.err.count('\n') == 1 and 'secret' not in done.err

    @pytest.mark.parametrize('arguments', [['backup', 'x', 'URL'], ['export', 'x', 'URL'], ['get', 'x', 'k', '--output', 'URL'], ['put', 'x', 'k', 'URL'],
                                           ['import', 'URL', 'x'], ['recover', 'URL', 'x'], ['recover', 'x', 'URL']])
    def test_where_a_file_is_wanted_it_says_what_copies(self, command, boxes, arguments):
        Vault('x').close()
        done = command(*(boxes if word == 'URL' else word for word in arguments))
        assert done.status == 2 and f'{hidden(boxes)} is a URL, where the path of a file is wanted: `vaults copy`' in done.err

    @pytest.mark.skipif(not shutil.which('bash'), reason='no bash to complete in')
    def test_bash_completes_vaults_under_a_root_and_keys_behind_a_url(self, boxes, tmp_path):
        for name in ('notes', 'numbers'):
            with contextlib.closing(Vault(f'{boxes}?{name}')) as v:
                v[name] = 1
        (tmp_path / 'complete').write_text(script('bash', COMMANDS, ARGUMENTS))
        (tmp_path / 'vaults-command').mkdir()
        (tmp_path / 'vaults-command' / 'vaults').write_text(f'#!/bin/sh\nexec {sys.executable} -m vaults "$@"\n')
        (tmp_path / 'vaults-command' / 'vaults').chmod(0o755)

        def completed(line):
            program = f'. {tmp_path}/complete; COMP_LINE="$1"; COMP_POINT=${{#1}}; _vaults; printf "%s\\n" "${{COMPREPLY[@]}}"'
            env = {**os.environ, 'PATH': f"{tmp_path}/vaults-command:{os.environ['PATH']}"}
            return subprocess.run(['bash', '-c', program, 'bash', line], env=env, capture_output=True, text=True).stdout.split()
        assert completed(f'vaults --root {boxes} get n') == completed(f'vaults copy --root={boxes} n') == ['notes', 'numbers']
        assert completed(f'vaults copy --root {boxes} notes nu') == ['numbers']
        assert completed(f'vaults get {boxes}\\?numbers n') == completed(f"vaults get '{boxes}?numbers' ") == ['numbers']


class TestRootsOfEngines:
    """Each engine that comes along has roots: names there are vaults, and the command finds them."""

    @pytest.fixture(params=['postgresql', 'json+file', 'msgpack+file', 'json+ftp'])
    def engine_root(self, request, tmp_path):
        if request.param == 'postgresql':
            server = request.getfixturevalue('server')
            return server.url(server.database())
        if request.param == 'json+ftp':
            return 'json+' + request.getfixturevalue('own_ftp').url('')
        return f'{request.param}://{tmp_path}/kept'

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        (tmp_path / 'kept').mkdir()

    def test_names_are_vaults_there(self, engine_root, command):
        assert command('list', '--root', engine_root).out == ''
        vaults.set_root_path(engine_root)
        odd = ['notes', 'a b', "it's", 'a:b@c', '&=%+', *(() if 'ftp' in engine_root else ('ä?#', '日本'))]
        shown = stores.shown_url(engine_root)
        for at, name in enumerate(odd):
            with contextlib.closing(Vault(name)) as v:
                v['at'] = at
                assert v.name == name and v.db_path.startswith(shown) and repr(v) == f'Vault({name!r}, 1 item)'
            again = pickle.loads(pickle.dumps(v))
            assert again['at'] == at and again.name == name
            again.close()
        assert [Vault(name, flag='r')['at'] for name in odd] == [*range(len(odd))]
        assert json.loads(command('list', '--json').out) == sorted(odd)
        for name in odd:
            assert command('get', name, 'at').out == command('get', stores.target_under(engine_root, name), 'at', '--root', '/').out == f'{odd.index(name)}\n'
        with pytest.raises(vaults.VaultNotFoundError):
            Vault('none', to_create=False)
        done = command('get', 'none', 'k')
        assert done.status == 1 and 'none' in done.err and 'vaults set' in done.err and done.err.count('\n') == 1
        Vault('notes').delete_vault()
        assert 'notes' not in command('list').out.splitlines()

    def test_every_command_takes_a_name_there(self, engine_root, command, tmp_path):
        vaults.set_root_path(engine_root)
        (tmp_path / 'file').write_bytes(b'content')
        assert command('set', 'notes', 'k', 'text').status == command('put', 'notes', 'f', tmp_path / 'file').status == 0
        assert command('get', 'notes', 'f').out == 'content' and command('keys', 'notes').out == 'f\nk\n' and command('count', 'notes').out == '2\n'
        assert command('show', 'notes').out.startswith('f  stream') and command('check', 'notes').out == 'sound: 2 entries\n'
        assert re.fullmatch(r'[1-9]\d* bytes before, [1-9]\d* after\n', command('compact', 'notes').out) and command('delete', 'notes', 'k').status == 0
        assert command('export', 'notes', tmp_path / 'lines').status == 0 and command('import', tmp_path / 'lines', 'more').status == 0
        assert command('copy', 'more', 'third').out == '1 entry copied to third\n' and command('copy', 'third', tmp_path / 'x.db').status == 0
        assert command('list').out == 'more\nnotes\nthird\n'
        info = json.loads(command('info', 'notes', '--json').out)
        assert info['name'] == 'notes' and info['path'].startswith(stores.shown_url(engine_root)) and info['entries'] == 1 and info['engine']
        (tmp_path / 'wrong.jsonl').write_text('{"key": "a", "value": 1}\n{"key": ')
        assert command('import', tmp_path / 'wrong.jsonl', 'new').status == command('put', 'new', 'k', tmp_path / 'nothing').status == 1
        assert command('list').out == 'more\nnotes\nthird\n'

    def test_a_vault_is_no_root(self, server):
        for root in (server.url(vault='x'), server.url(sslmode='disable', vault='x')):
            with pytest.raises(vaults.VaultValueError, match='a root names a database, and no vault in it'):
                vaults.set_root_path(root)

    def test_a_shelf_stands_there(self, engine_root):
        url = stores.target_under(engine_root, 'shelf')
        with vaults.open(url, writeback=True) as shelf:
            shelf['a'] = [1]
            shelf['a'].append(2)
        with vaults.open(url, 'r') as shelf:
            assert shelf['a'] == [1, 2]
