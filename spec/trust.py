"""Trust: what is a pickle, and which files may have theirs loaded."""
from __future__ import annotations

import collections
import contextlib
import dbm.dumb
import os
import pathlib
import pickle
import tempfile

import msgpack
import pytest

import vaults
from vaults import Vault, moving
from vaults.codecs import codes, trust

from .helpers import in_child, needs_fork, needs_root
from .samples import Custom, Pair, plant


class TestTrust:
    """A pickle runs code: it is read and written only where nobody else could have written it."""

    def test_in_a_file_of_ones_own_pickles_are_read_and_written(self, v):
        v['k'] = Custom(1)
        assert v['k'] == Custom(1)

    @needs_root
    @pytest.mark.parametrize('spoil', ['file mode', 'folder mode', 'file owner', 'folder owner', 'group'])
    def test_where_others_may_write_nothing_runs(self, root, spoil):
        v = Vault('t', allow_pickle=True)
        mark = root / 'ran'
        plant(v, mark)
        v['plain'] = 1
        v.close()
        place = root / 'vaults' if 'folder' in spoil else root / 'vaults' / 't.db'
        if 'mode' in spoil:
            os.chmod(place, 0o777)
        elif spoil == 'group':
            os.chown(place, 0, 12345)
            os.chmod(place, 0o664)
        else:
            os.chown(place, 65534, 0)
        v = Vault('t')
        assert v['plain'] == 1
        for act in (lambda: v['bomb'], v.items().__repr__, lambda: v.put('k', Custom(1))):
            with pytest.raises(vaults.UntrustedPickleError, match='allow_pickle=True'):
                act()
        assert v.check() == [] and 'k' not in v
        assert not mark.exists()

    @pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='no owners on this system')
    def test_a_sticky_folder_and_a_group_of_ones_own_are_nobody_else(self, root):
        import pwd
        v = Vault('t')
        os.chmod(root / 'vaults', 0o1777)
        assert trust.untrusted(v.db_path) is None
        os.chmod(root / 'vaults', 0o777)
        assert 'everybody may write the folder' in trust.untrusted(v.db_path)
        os.chmod(root / 'vaults', 0o755)
        me = pwd.getpwuid(os.geteuid())
        if trust._is_private(me.pw_gid):
            os.chmod(v.db_path, 0o660)
            assert trust.untrusted(v.db_path) is None

    @pytest.fixture
    def deep(self, root):
        """A vault in a folder in a folder in a folder, all of them one's own."""
        folder = root / 'grand' / 'parent' / 'folder'
        folder.mkdir(parents=True)
        with contextlib.closing(Vault(folder / 't.db')) as v:
            v['k'] = Custom(1)
        return folder

    def refused(self, path, *words):
        with contextlib.closing(Vault(path)) as v, pytest.raises(vaults.UntrustedPickleError) as caught:
            v['k']
        assert all(word in str(caught.value) for word in words), caught.value

    def read(self, path):
        with contextlib.closing(Vault(path)) as v:
            return v['k'] == Custom(1)

    @pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='no owners on this system')
    @pytest.mark.parametrize('level', ['grand', 'grand/parent', 'grand/parent/folder'])
    def test_every_folder_above_counts_and_is_named_with_the_cure(self, root, deep, level):
        (root / level).chmod(0o777)
        self.refused(deep / 't.db', f'everybody may write the folder {root / level}', f'`chmod o-w {root / level}`')
        (root / level).chmod(0o1777)
        assert self.read(deep / 't.db')

    @needs_root
    @pytest.mark.parametrize('level', ['grand', 'grand/parent', 'grand/parent/folder'])
    def test_a_folder_of_another_user_or_group_counts_even_when_it_is_sticky(self, root, deep, level):
        os.chown(root / level, 12345, 54321)
        for mode in (0o755, 0o1777):
            (root / level).chmod(mode)
            self.refused(deep / 't.db', f'the folder {root / level} belongs to user 12345', 'keep the vault')
        os.chown(root / level, 0, 54321)
        (root / level).chmod(0o775)
        self.refused(deep / 't.db', f'the group 54321 may write the folder {root / level}', 'chmod g-w')
        (root / level).chmod(0o1775)
        assert self.read(deep / 't.db')

    @needs_root
    @needs_fork
    def test_another_user_trusts_what_is_root_s_and_not_what_is_a_third_one_s(self):
        with tempfile.TemporaryDirectory() as base:  # tmp_path is closed to others
            folder = pathlib.Path(base, 'parent', 'folder')
            folder.mkdir(parents=True)
            (folder / 't.db').write_bytes(b'')
            pathlib.Path(base).chmod(0o755)
            for mine in (folder, folder / 't.db'):
                os.chown(mine, 12345, 54321)

            def as_user():
                os.setgroups([])
                os.setgid(54321)
                os.setuid(12345)
                return trust.untrusted(str(folder / 't.db'))
            assert in_child(as_user).answer() is None
            os.chown(folder.parent, 666, 666)
            assert f'the folder {folder.parent} belongs to user 666' in in_child(as_user).answer()
            os.chown(folder.parent, 0, 54321)
            folder.parent.chmod(0o775)
            assert f'the group 54321 may write the folder {folder.parent}' in in_child(as_user).answer()

    @pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='no owners on this system')
    def test_the_folder_of_each_link_on_the_way_counts(self, root, deep):
        for name in ('one', 'two', 'three'):
            (root / name).mkdir()
        (root / 'one' / 'link').symlink_to('../two/link')
        (root / 'two' / 'link').symlink_to(root / 'three' / 'link')
        (root / 'three' / 'link').symlink_to(deep)
        (root / 'three' / 't.db').symlink_to('link/../folder/t.db')
        for way in (root / 'one' / 'link' / 't.db', root / 'three' / 't.db'):
            assert self.read(way)
        for name in ('one', 'two', 'three', 'grand'):
            (root / name).chmod(0o777)
            self.refused(root / 'one' / 'link' / 't.db', f'everybody may write the folder {root / name}')
            (root / name).chmod(0o755)
        (root / 'three').chmod(0o777)
        self.refused(root / 'three' / 't.db', 'three')

    @needs_root
    def test_a_link_of_another_user_in_a_sticky_folder_counts(self, root, deep):
        (root / 'sticky').mkdir()
        (root / 'sticky').chmod(0o1777)
        (root / 'sticky' / 'link').symlink_to(deep)
        assert self.read(root / 'sticky' / 'link' / 't.db')
        os.chown(root / 'sticky' / 'link', 12345, 54321, follow_symlinks=False)
        self.refused(root / 'sticky' / 'link' / 't.db', f"the link {root / 'sticky' / 'link'} belongs to user 12345")

    @pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='no owners on this system')
    def test_links_that_run_in_circles_are_no_way(self, root):
        (root / 'a').symlink_to('b')
        (root / 'b').symlink_to('a')
        assert 'links' in trust.untrusted(str(root / 'a' / 't.db'))

    @pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='no owners on this system')
    def test_a_source_of_an_import_counts_as_well(self, root, deep):
        with contextlib.closing(dbm.dumb.open(str(deep / 'shelf'), 'n')) as db:
            db['k'] = pickle.dumps(1j)
        assert list(moving.read(deep / 'shelf')) == [('k', 1j)]
        (root / 'grand').chmod(0o777)
        with pytest.raises(vaults.UntrustedPickleError, match=f"folder {root / 'grand'}"):
            list(moving.read(deep / 'shelf'))

    def test_false_neither_reads_nor_writes(self, root):
        v = Vault('t', allow_pickle=False)
        mark = root / 'ran'
        plant(v, mark)
        with pytest.raises(vaults.UntrustedPickleError, match='allow_pickle=False'):
            v['bomb']
        with pytest.raises(vaults.UntrustedPickleError, match='Custom.*register'):
            v['k'] = Custom(1)
        assert not mark.exists() and v.keys() == ['bomb']

    def test_a_list_resolves_those_types_alone(self, root):
        v = Vault('t', allow_pickle=[Custom, Pair])
        mark = root / 'ran'
        plant(v, mark)
        v['k'] = [Custom(1), Pair(1, 2)]
        assert v['k'] == [Custom(1), Pair(1, 2)]
        with pytest.raises(vaults.UntrustedPickleError, match='system'):
            v['bomb']
        with pytest.raises(vaults.UntrustedPickleError, match='OrderedDict'):
            v['o'] = collections.OrderedDict()
        assert not mark.exists() and 'o' not in v

    def test_true_reads_all_and_misuse_is_refused(self, root):
        mark = root / 'ran'
        v = Vault('t', allow_pickle=True)
        plant(v, mark)
        assert v['bomb'] == 0 and mark.exists()
        for wrong in ('yes', [], [1], int, 1.5):
            with pytest.raises(TypeError):
                Vault('u', allow_pickle=wrong)

    def test_a_pickle_that_cannot_be_loaded_is_an_error_of_ours(self, v):
        v._store.put('k', msgpack.packb(msgpack.ExtType(codes.PICKLE, b'cno_such_module\nThing\n.')))
        with pytest.raises(vaults.SerializationError, match='no_such_module.*importable'):
            v['k']
