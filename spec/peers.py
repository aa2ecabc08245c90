"""What the parts of moving share: the files that peers have written."""
from __future__ import annotations

import contextlib
import os
import pickle
import re
import shutil
import sqlite3

import pytest

import vaults
from vaults import Vault, moving

from .helpers import HERE


@pytest.fixture(scope='session')
def peers(tmp_path_factory):
    """The files of testdata/, where nobody else may write them."""
    place = tmp_path_factory.mktemp('peers') / 'testdata'
    shutil.copytree(HERE / 'testdata', place, copy_function=shutil.copyfile)
    for folder in (place, *place.rglob('*')):
        folder.chmod(0o700 if folder.is_dir() else 0o600)
    return place


def seen(folder):
    """Return all that is in a folder: names, bytes and times of change."""
    return {str(path.relative_to(folder)): path.is_file() and (path.read_bytes(), path.stat().st_mtime_ns)
            for path in folder.rglob('*') if '__pycache__' not in path.parts}


def lacks(name):
    """Return the dbm module that this Python lacks to read the file of a peer."""
    module = {'gnu': '_gdbm', 'ndbm': '_dbm'}.get(re.split('[-.]', name)[1])
    try:
        return module and not __import__(module) and None
    except ImportError:
        return module


def sqlite_file(path, *statements):
    with contextlib.closing(sqlite3.connect(str(path), isolation_level=None)) as raw:
        for statement, *arguments in statements:
            raw.execute(statement, *arguments)
    return path


def bomb(path):
    """A pickle that makes a file when it is loaded."""
    class Bomb:
        def __reduce__(self):
            return open, (str(path), 'w')
    return pickle.dumps(Bomb())


def fails(path, *words, error=vaults.VaultFormatError, **options):
    """Import into a vault that has something: it fails with the words, names the source, and changes nothing."""
    with contextlib.closing(Vault(':memory:')) as v:
        v['before'] = 1
        with pytest.raises(error) as caught:
            moving.import_file(v, path, **options)
        assert type(caught.value) is error
        for word in (*words, *([] if hasattr(path, 'read') else [os.path.basename(path)])):
            assert str(word) in str(caught.value), str(caught.value)
        assert v.items() == [('before', 1)]
        v._check()


SQLITEDICT = 'CREATE TABLE "unnamed" (key TEXT PRIMARY KEY, value BLOB)'
EARLIER = 'CREATE TABLE dict(key BLOB, value BLOB)'
