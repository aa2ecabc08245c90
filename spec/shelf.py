"""The shelf: what shelve does."""
from __future__ import annotations

import json
import os
import pathlib
import pickle
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import types

import pytest

import vaults
from testdata.make import EXPECTED
from vaults import Vault, moving
from vaults.moving import source
from vaults.moving.readers import all_readers

from .helpers import HERE, TESTDATA, output, run
from .peers import lacks, seen

# Of test.test_shelve, what asks for shelve's internals: test -> why it is left out.
OF_SHELVE_ALONE = {
    'test_in_memory_shelf': 'looks at the pickles in the dict that a Shelf stands on: a vault stands on a file',
    'test_mutable_entry': 'counts the entries of that dict (that mutable entries work is tested here)',
    'test_keyencoding': 'looks at the encoded keys of that dict: keys are stored as they are',
    'test_writeback_also_writes_immediately': 'expects a write into that dict at once: sync() and close() write',
    'test_default_protocol': 'reads the attribute _protocol: values are msgpack',
}
CPYTHONS_TESTS = '''
    import json, os, sys, types, unittest
    import vaults
    shelve = sys.modules['shelve'] = types.ModuleType('shelve')
    shelve.open = vaults.open
    shelve.Shelf = lambda dict, **options: vaults.Shelf(':memory:', **options)
    shelve.DbfilenameShelf = vaults.Shelf
    os.chdir(sys.argv[1])
    from test import test_shelve
    if issubclass(test_shelve.TestShelveBase, unittest.TestCase):  # before 3.11 the base of the cases counts as one
        del test_shelve.TestShelveBase
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(test_shelve).run(result)
    print(json.dumps([result.testsRun, [case.id().split('.')[-1] for case, _ in result.failures + result.errors]]))
'''


class TestShelf:
    """`import vaults as shelve` is the whole migration."""

    def test_open_has_the_signature_of_shelve_open(self):
        import inspect
        import shelve
        theirs, ours = (inspect.signature(function).parameters.values() for function in (shelve.open, vaults.open))
        theirs = [(one.name, one.kind, one.default) for one in theirs]
        if sys.version_info < (3, 15):  # from which on it has these two
            theirs += [(name, inspect.Parameter.KEYWORD_ONLY, None) for name in ('serializer', 'deserializer')]
        assert [(one.name, one.kind, one.default) for one in ours] == theirs

    def test_cpythons_own_tests_pass_but_for_shelves_internals(self, root):
        pytest.importorskip('test.test_shelve', reason='this Python comes without its tests')
        ran, failed = json.loads(output(CPYTHONS_TESTS, root).splitlines()[-1])
        assert sorted(failed) == sorted(OF_SHELVE_ALONE) and ran > 80

    def test_a_program_for_shelve_runs_unchanged(self, root):
        program = '''
            import sys
            import {} as shelve
            with shelve.open(sys.argv[1]) as db:
                db['name'] = 'Ann'
                db['tags'] = ['a']
                db['tags'].append('lost')
                temp = db['tags']
                temp.append('b')
                db['tags'] = temp
                del db['name']
            with shelve.open(sys.argv[1], writeback=True) as db:
                db['tags'].append('c')
                db.setdefault('seen', set()).add(1)
            db = shelve.open(sys.argv[1], 'r')
            print(sorted(db.items()), len(db), 'tags' in db, sorted(db), 'name' in db, db.get('none', 5))
            db.close()
            try:
                db['tags']
            except ValueError:
                print('closed')'''
        assert output(program.format('vaults'), root / 'ours') == output(program.format('shelve'), root / 'theirs')

    def test_the_file_is_exactly_the_path(self, root):
        for name in (str(root / 'data'), os.fsencode(root / 'data.x'), root / 'data.db', FakePath(str(root / 'with.dots.db'))):
            with vaults.open(name) as shelf:
                shelf['k'] = 1
            assert vaults.Shelf(name)['k'] == 1
        assert {path.name for path in root.iterdir()} >= {'data', 'data.x', 'data.db', 'with.dots.db'}
        assert isinstance(shelf, Vault) and type(shelf) is vaults.Shelf and shelf.db_path == str(root / 'with.dots.db')

    def test_each_write_is_durable_on_return(self, root):
        run('''
            import os, sys, vaults
            shelf = vaults.open(sys.argv[1])
            shelf['a'] = 1
            with shelf:
                shelf['b'] = 2
                os._exit(9)''', root / 's.db')
        assert vaults.open(root / 's.db').items() == [('a', 1), ('b', 2)]

    def test_with_closes_at_the_end_and_keeps_what_was_written(self, root):
        with pytest.raises(ZeroDivisionError), vaults.open(root / 's.db') as shelf:
            shelf['a'] = 1
            1 / 0
        with pytest.raises(ValueError):
            shelf['a']
        with vaults.open(root / 's.db') as shelf:
            with pytest.raises(ZeroDivisionError), shelf.transaction():
                shelf['b'] = 1
                1 / 0
            assert shelf.items() == [('a', 1)]

    def test_writeback_is_that_of_a_vault_and_with_writes_it(self, root):
        with vaults.open(root / 's.db', writeback=True) as shelf:
            shelf['a'] = [1]
            shelf['a'].append(2)
            shelf.sync()
            shelf['a'].append(3)
            assert isinstance(shelf, vaults.Shelf)
        assert vaults.open(root / 's.db')['a'] == [1, 2, 3]
        with pytest.raises(vaults.SerializationError, match="'bad'"), vaults.open(root / 's.db', writeback=True) as shelf:
            shelf['bad'] = lambda: 0
            shelf['good'] = [1]
        assert vaults.open(root / 's.db').items() == [('a', [1, 2, 3]), ('good', [1])]
        del shelf['bad']

    @pytest.mark.parametrize('protocol', [None, 0, 1, 2, 3, 4, 5, -1])
    def test_any_protocol_is_taken_and_order_and_keys_are_those_of_a_dict(self, root, protocol):
        entries = {'b': 1, 'a': (1, {2}), 3: None, ('t', 1): b'x'}
        with vaults.open(str(root / 's'), 'n', protocol) as shelf:
            shelf.update(entries)
            assert shelf == entries and list(shelf) == list(entries)

    def test_flags_are_those_of_dbm(self, root):
        path = root / 's.db'
        for flag in 'rw':
            with pytest.raises(FileNotFoundError):
                vaults.open(path, flag)
        with vaults.open(path, 'c') as shelf:
            shelf['a'] = 1
        with vaults.open(path, 'r') as shelf, pytest.raises(PermissionError):
            shelf['a'] = 2
        with vaults.open(path, 'w') as shelf:
            shelf['a'] = 3
        with vaults.open(path, 'n') as shelf:
            assert shelf.items() == []
        with pytest.raises(vaults.VaultError, match='flag'):
            vaults.open(path, 'x')

    def test_it_takes_shelves_serializer_and_deserializer(self, root):
        def dump(obj, protocol):
            asked.append(protocol)
            return forms[0](json.dumps(obj))

        def load(data):
            assert type(data) is bytes
            return json.loads(data)
        asked, path = [], root / 's.db'
        forms = [str.encode, str, lambda text: bytearray(text.encode()), lambda text: memoryview(text.encode())]
        while forms:
            with vaults.open(path, 'n', serializer=dump, deserializer=load) as shelf:
                shelf['a'] = (1, {'b': None})
                assert shelf['a'] == [1, {'b': None}] and asked[-1] == pickle.DEFAULT_PROTOCOL
            with vaults.Shelf(path, 'c', 2, True, serializer=dump, deserializer=load) as shelf:
                shelf['a'].append(5)
                shelf['b'] = 1
            assert asked[-1] == 2
            with vaults.open(path, serializer=dump, deserializer=load) as shelf:
                assert shelf.items() == [('a', [1, {'b': None}, 5]), ('b', 1)] and shelf.check() == []
            forms.pop(0)
        with pytest.raises(vaults.VaultFormatError, match="'shelve'"):
            vaults.open(path)
        with vaults.open(root / 'pickled', serializer=pickle.dumps, deserializer=pickle.loads) as shelf:
            shelf['a'] = {1}
            other = pickle.loads(pickle.dumps(shelf))
            assert other['a'] == {1} and type(other) is vaults.Shelf
            other.close()
        with vaults.open(root / 'module', serializer=json) as shelf:
            shelf['a'] = 1
        with vaults.Shelf(root / 'none', serializer=lambda obj, protocol: None, deserializer=load) as shelf, \
                pytest.raises(TypeError, match='NoneType'):
            shelf['a'] = 1

    def test_a_serializer_and_a_deserializer_go_together(self, root):
        for options in ({'serializer': pickle.dumps}, {'deserializer': pickle.loads}, {'serializer': 5, 'deserializer': 5},
                        {'serializer': json, 'deserializer': json.loads}):
            for opened in (vaults.open, vaults.Shelf):
                with pytest.raises(TypeError, match='go together') as caught:
                    opened(root / 's.db', **options)
                assert isinstance(caught.value, vaults.VaultError)
        assert not (root / 's.db').exists()

    def test_it_can_be_pickled_and_lives_in_memory_too(self, root):
        with vaults.open(root / 's.db', writeback=True) as shelf:
            shelf['a'] = [1]
            with pickle.loads(pickle.dumps(shelf)) as again:
                assert again['a'] == [1] and isinstance(again, vaults.Shelf)
                again['a'].append(2)
        assert vaults.open(root / 's.db')['a'] == [1, 2]
        with vaults.open(':memory:') as shelf:
            shelf['a'] = 1
        assert not (root / ':memory:').exists()

    @pytest.mark.parametrize('name', ['shelve-dumb', 'dbm-dumb', 'shelve-gnu', 'dbm-gnu', 'shelve-sqlite3', 'dbm-sqlite3',
                                      'shelve-ndbm', 'dbm-ndbm'])
    def test_an_older_file_is_named_with_the_command_that_moves_it(self, root, name):
        for file in TESTDATA.glob(f'{name}*'):
            if not file.name.startswith('shelve-dumb-p'):
                shutil.copy(file, root)
        if lacks(name):
            pytest.skip(f'this Python has no {lacks(name)}')
        before = seen(root)
        for flag in 'crw':
            with pytest.raises(vaults.VaultFormatError, match=f'{name.split("-")[0]} file') as caught:
                vaults.open(str(root / name), flag)
        assert seen(root) == before
        command = re.search('`vaults (.*)`', str(caught.value)).group(1)
        done = subprocess.run([sys.executable, '-m', 'vaults', *shlex.split(command)], env={**os.environ, 'PYTHONPATH': str(HERE)},
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with vaults.open(str(caught.value).split()[-1], 'r') as shelf:
            assert shelf == EXPECTED[name]

    def test_a_new_shelf_beside_an_older_file_is_made_when_asked_for(self, root):
        for ending in ('.dat', '.dir'):
            shutil.copy(TESTDATA / f'shelve-dumb{ending}', root / f's{ending}')
        with vaults.open(str(root / 's'), 'n') as shelf:
            shelf['a'] = 1
        with vaults.open(str(root / 's')) as shelf:
            assert shelf.items() == [('a', 1)]

    @pytest.mark.parametrize('name', ['vaults-earlier.sqlite', 'sqlitedict-unnamed.sqlite', 'litedict-words.sqlite', 'csv-pairs.csv'])
    @pytest.mark.parametrize('opened', [Vault, vaults.open])
    def test_any_older_file_is_named_with_the_command_that_moves_it(self, root, name, opened):
        path = pathlib.Path(shutil.copy(TESTDATA / name, root))
        before = seen(root)
        with pytest.raises(vaults.VaultFormatError, match=f'an? {moving.recognise(path)} file: move it with .vaults import') as caught:
            opened(path)
        assert seen(root) == before and str(caught.value).endswith('.vault.db')
        with sqlite3.connect(str(root / 'other.db')) as other:
            other.execute('CREATE TABLE t(a)')
        other.close()
        with pytest.raises(vaults.VaultFormatError, match='another name or path$'):
            opened(root / 'other.db')

    @pytest.mark.parametrize('kind', sorted(all_readers()))
    def test_every_kind_has_its_article(self, kind, root, monkeypatch):
        monkeypatch.setattr(source, 'Source', lambda path: types.SimpleNamespace(reader=types.SimpleNamespace(name=kind)))
        article = 'an' if kind[0] in 'aeio' else 'a'
        assert source.cure(str(root / 'x')) == '' if kind == 'vault' else f' {article} {kind} ' in source.cure(str(root / 'x'))

    def test_what_is_neither_is_refused_as_by_a_vault(self, root):
        (root / 's.db').write_text('just text')
        for flag in 'crwn':
            with pytest.raises(vaults.VaultFormatError, match='not a vault'):
                vaults.open(root / 's.db', flag)
        assert (root / 's.db').read_text() == 'just text'


class FakePath:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path
