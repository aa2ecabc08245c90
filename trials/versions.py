"""Run one scene on old and new Pythons, SQLites and msgpacks; let each read, change and check what the others wrote.

    python trials/versions.py [--rounds N] [--seed S] [--all] [--offline]
    python trials/versions.py --write FILE

A combination is a Python, an SQLite and a msgpack. In each a scene goes over the whole surface beside a dict as its
model, and leaves two files: one closed, and one whose last commits are in the log that a killed process left. Then each
combination opens copies of all these files, and of those that the releases have left in trials/files/, compares,
changes and checks them.

The short measure takes this Python as it is, and with msgpack in pure Python; the oldest CPython found, with msgpack
1.0.0 and SQLite 3.35; and the newest one, with the newest of both that pip has. `--all` takes every CPython of PATH
and of pyenv, with each of these in turn. An SQLite of yours is tried as LD_LIBRARY_PATH puts it before the system's.
Old and new packages come from pip, into a temporary folder. What cannot be had is said. Prints a line for each
combination and one of figures; exits with 1 when a promise broke.

SQLite comes from the wheels of pysqlite3-binary: its extension carries a whole SQLite and shows its functions. Under
the name of the system's library, in a folder that LD_LIBRARY_PATH names, the standard sqlite3 runs on it, on Linux.
"""
from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import itertools
import os
import pathlib
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

from shared import ROOT, TRIALS
from shared.model import Draw, Model, attempt, entries
from shared.processes import as_role, ask_all, play_role, role, run
from shared.values import typed

FILES = TRIALS / 'files'
OLD_SQLITE = 'pysqlite3-binary==0.4.6 --platform manylinux1_x86_64 --python-version 3.8'  # 3.35.4; it fits up to 3.10
NEW_SQLITE = 'pysqlite3-binary'
OLD_MSGPACK = 'msgpack==1.0.0 --python-version 3.8'  # other Pythons take of that wheel what is not compiled
PROBE = '''
import platform, sqlite3, sys, msgpack
print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, msgpack {'.'.join(map(str, msgpack.version))}",
      "in pure Python" if msgpack.Packer.__module__.endswith("fallback") else "")
print(open("/proc/self/maps").read() if sys.platform == "linux" else "")
'''
VERSION = '''
import platform, sys
if sys.version_info >= (3, 8) and platform.python_implementation() == "CPython" and "t" not in sys.abiflags:
    print(*sys.version_info[:2], sys.executable)
'''


# --- the scene, in the Python under trial ---------------------------------------------------------------------------

OFTEN = dict.fromkeys(('put', 'pop', 'popitem', 'setdefault', 'move', 'update', 'put_many', 'get_many', 'pop_many', 'edit', 'slice',
                       'prefix', 'del slice', 'reversed', 'stream', 'list', 'column', 'section', 'block', 'failing block'), 1)
RELEASES = sorted(path.stem for path in FILES.glob('*.db'))


@functools.lru_cache(maxsize=None)
def release(name):
    """Import the module beside a file of a release."""
    spec = importlib.util.spec_from_file_location(f'release_{name.replace(".", "_")}', FILES / f'{name}.py')
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # there: models with its Points are pickled
    spec.loader.exec_module(module)
    return module


def opened(path, **options):
    import vaults
    return vaults.Vault(path, **{'allow_pickle': release(RELEASES[-1]).PICKLED, **options})


def agree(found, expected, what):
    """Raise when two things differ, in type or value at any depth."""
    if typed(found) != typed(expected):
        raise AssertionError(f'{what}: {str(found)[:500]} instead of {str(expected)[:500]}')


def compare(v, model):
    """Compare a vault with its model: order, types, walks, and what check() finds."""
    v._check()
    agree(entries(v), entries(model), 'the entries')
    agree(list(reversed(v)), list(reversed(model)), 'the keys, backwards')
    agree(list(v['':'\U0010ffff']), sorted(key for key in model if isinstance(key, str) and '\ud800' not in key), 'the text keys')


def change(v, model, seed):
    """Put what the release has, of every kind, and do random steps to both, in blocks too; none may give another answer."""
    table, rng = release(RELEASES[-1]), random.Random(seed)
    for key, value in (*table.KEYS.items(), *table.VALUES.items(), *zip(table.KEYS, rng.sample(list(table.VALUES.values()), 29))):
        v[key] = model[key] = value
    for step in itertools.islice(Draw(seed, keys=90).steps(OFTEN), 200):
        agree(attempt(v, step), attempt(model, step), step[0])
    for key in v:  # a walk while it writes
        if isinstance(key, int):
            v['written'] = model['written'] = v.pop(key)
            del model[key]


def change_live(v, model):
    """Change objects in place in a write-back vault on the same file."""
    with contextlib.closing(opened(pathlib.Path(v.db_path), writeback=True, cache_size=5)) as live:
        for number in [*range(20), 3]:
            for one in (live, model):
                one.setdefault(f'live {number}', []).append(number)


def add_up(v):
    for number in range(100):
        with v:
            count = v['count']
            time.sleep(0 if number % 10 else 0.002)  # now and then, long enough for all others to come
            v['count'] = count + 1


def count_together(v, model):
    """Let forks count in one entry at once, half of them with the vault they were born with: no step may be missing."""
    v['count'], model['count'] = 0, 400
    answers = ask_all([(lambda: add_up(opened(pathlib.Path(v.db_path))),)] * 2 + [(add_up, v)] * 2)
    agree([answer.code for answer in answers], [0] * 4, 'how processes that counted ended')


@role
def scene(folder, seed):
    """Play the whole scene in a new vault, which is left closed beside its model."""
    path, copy, model = pathlib.Path(folder, 'scene.db'), pathlib.Path(folder, 'backup.db'), Model()
    for again in range(2):
        with contextlib.closing(opened(path)) as v:
            change(v, model, f'{seed} {again}')
            compare(v, model)
    with contextlib.closing(opened(path)) as v:
        change_live(v, model)
        count_together(v, model)
        v.backup(copy)
        with contextlib.closing(opened(copy, to_create=False)) as copied:
            compare(copied, model)
        v.compact()
        v.sync()
        compare(v, model)
    path.with_suffix('.model').write_bytes(pickle.dumps(model.data, 4))


CRASHED = {**{f'k{number}': number for number in range(50) if number != 7}, 'list': list(range(500))}


@role
def crash(folder, _):
    """Write with the log left behind: the process kills itself inside a block, after commits that are there alone."""
    v = opened(pathlib.Path(folder, 'crash.db'))
    v.update((f'k{number}', number) for number in range(50))
    v.list('list').extend(range(500))
    del v['k7']
    with v:
        v['k half'] = 1
        v.list('list').append('half')
        os.kill(os.getpid(), signal.SIGKILL)


@role
def read(folder, _):
    """Read the copies that lie in the folder: compare, change, open again and compare; and the file of each release."""
    found = [(path, path.with_suffix('.model').read_bytes()) for path in sorted(pathlib.Path(folder).glob('*.scene.db'))]
    found += [(path, pickle.dumps(CRASHED)) for path in sorted(pathlib.Path(folder).glob('*.crash.db'))]
    for path, pickled in found:
        model = Model(pickle.loads(pickled))
        for changes in (True, False):
            with contextlib.closing(opened(path, to_create=False, allow_pickle=True)) as v:
                compare(v, model)
                if changes:
                    change(v, model, path.name)
    for name in RELEASES:
        read_release(name, pathlib.Path(folder, f'{name}.db'))


def read_release(name, path):
    """Open a copy of a release's file, compare it with its table, write to it and check it."""
    table = release(name)
    shutil.copy(FILES / f'{name}.db', path)
    agree(hashlib.sha256(path.read_bytes()).hexdigest(), table.SHA256, f'{name}.db')
    with contextlib.closing(opened(path, flag='r', allow_pickle=table.PICKLED)) as v:
        agree(table.differences(v), [], f'{name}.db')
    with contextlib.closing(opened(path, to_create=False, allow_pickle=table.PICKLED)) as v:
        v['written later'] = 1
        found = v.pop('written later'), len(v), table.differences(v)
        agree(found, (1, len(table.EXPECTED), []), f'{name}.db, written')


def write_release(path):
    """Write the file of the newest release, with a stopped clock and no chance in it; return what is wrong with it."""
    import vaults
    table = release(max(path.stem for path in FILES.glob('*.py')))
    table.register(vaults)
    rng = random.Random(1)
    with mock.patch('time.time', lambda: 1_795_257_000.0), mock.patch('random.getrandbits', rng.getrandbits), \
            mock.patch('os.urandom', lambda size: bytes(rng.randrange(256) for _ in range(size))), \
            contextlib.closing(vaults.Vault(path, flag='n', allow_pickle=table.PICKLED)) as v:
        table.fill(v)
        v.compact()
        return '\n'.join(table.differences(v)) or None


# --- the combinations -----------------------------------------------------------------------------------------------

class Missing(Exception):
    """What a combination needs cannot be had here; the message says why."""


def output_of(command, env=None):
    """Run a program and return what it printed. Raises: Missing, with the last of its complaints."""
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise Missing(done.stderr.strip().split('\n')[-1][:200])
    return done.stdout


def pythons():
    """Return (version, path) of every CPython that vaults supports here, oldest first."""
    folders = [*map(pathlib.Path, os.environ['PATH'].split(os.pathsep)),
               *pathlib.Path(os.environ.get('PYENV_ROOT', pathlib.Path.home() / '.pyenv')).glob('versions/*/bin')]
    found = {}
    for path in [sys.executable, *(path for folder in folders for path in folder.glob('python3*'))]:
        if re.search(r'python3?(\.\d+)?$', str(path)):
            with contextlib.suppress(OSError, Missing):  # a name without a program, or with one that does not run
                for line in output_of([path, '-c', VERSION]).splitlines():
                    major, minor, executable = line.split(' ', 2)
                    found.setdefault((int(major), int(minor)), executable)
    return [(f'{major}.{minor}', path) for (major, minor), path in sorted(found.items())]


class Combination:
    """A Python, a msgpack and an SQLite: how to run it, and what it turned out to be."""

    def __init__(self, version, python, msgpack='', sqlite='', is_pure=False):
        self.version, self.python, self.msgpack, self.sqlite = version, python, msgpack, sqlite
        self.env = {**os.environ, 'VAULTS_DRIVER': 'sqlite3', 'PYTHONDONTWRITEBYTECODE': '1', 'MSGPACK_PUREPYTHON': '1' * is_pure}
        parts = [part.split()[0] for part in (msgpack, sqlite, 'pure' * is_pure) if part]
        self.name = ' with '.join([f'Python {version}', *parts])

    def prepare(self, folder, offline):
        """Get its parts into a folder and see that they are what runs. Raises: Missing."""
        self.folder, packages, library = folder, folder / 'packages', folder / 'lib'
        library.mkdir(parents=True)
        for what in filter(None, [self.msgpack, self.sqlite]):
            if offline:
                raise Missing('it would come from the network')
            output_of([sys.executable, '-m', 'pip', 'install', '-q', '--disable-pip-version-check', '--no-input',
                       '--no-cache-dir', '--no-deps', '--only-binary', ':all:', '--implementation', 'cp',
                       '--python-version', self.version, '--target', packages, *what.split()])
        self.env['PYTHONPATH'] = os.pathsep.join(map(str, (ROOT, packages)))
        if self.sqlite:
            shutil.copy(next(packages.glob('pysqlite3/_sqlite3*.so')), library / 'libsqlite3.so.0')
            before = [str(library), os.environ.get('LD_LIBRARY_PATH', '')]
            self.env['LD_LIBRARY_PATH'] = os.pathsep.join(filter(None, before))
        name, _, loaded = output_of([self.python, '-c', PROBE], self.env).partition('\n')
        if self.sqlite and str(library) not in loaded:
            raise Missing('this Python has its SQLite within itself')
        self.name = name.strip()

    def act(self, function, seed='', code=0):
        """Play a role in it; raise when that ends otherwise than with `code`."""
        ended = run([self.python, '-W', 'error', *as_role(function, self.folder, seed)[3:]], hangs=900, env=self.env)
        if ended.code != code:
            raise AssertionError(f'{function.__name__} ended with {ended.code}: {ended.complaints.strip()[-300:]}')

    def write(self, seed):
        """Write its two files, anew; see that the killed process left its log."""
        for path in self.folder.glob('*.*'):
            path.unlink()
        self.act(scene, seed)
        self.act(crash, code=-signal.SIGKILL)
        if not (self.folder / 'crash.db-wal').stat().st_size:
            raise AssertionError('the killed process left no log')


def wanted_combinations(is_all):
    """List what is to be tried: the short measure, or everything that this machine has."""
    this = f'{sys.version_info[0]}.{sys.version_info[1]}', sys.executable
    found = pythons() or [this]
    yield Combination(*this)
    yield Combination(*this, is_pure=True)
    for one in found if is_all else ():
        for parts in ({}, {'is_pure': True}, {'sqlite': OLD_SQLITE}, {'sqlite': NEW_SQLITE}):
            yield Combination(*one, 'msgpack', **parts)
        yield Combination(*one, OLD_MSGPACK)
    if not is_all:
        yield Combination(*found[0], OLD_MSGPACK, OLD_SQLITE)
        yield Combination(*found[-1], 'msgpack', NEW_SQLITE)


def each(combinations, run, failed):
    """Run something in each combination, as many at once as there are processors; say what failed, and return the rest."""
    def attempted(numbered):
        try:
            run(*numbered)
            return True
        except (AssertionError, Missing) as error:
            failed(f'{numbered[1].name}: {error}')
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(itertools.compress(combinations, pool.map(attempted, enumerate(combinations))))


def share(combinations):
    """Give each combination copies of what all have written, under the names of their writers."""
    for reader in combinations:
        for number, writer in enumerate(combinations):
            for name in ('scene.db', 'scene.model', 'crash.db', 'crash.db-wal'):
                shutil.copy(writer.folder / name, reader.folder / f'{number}.{name}')


def main():
    from shared.verdict import Trial
    trial = Trial(__doc__, 1)
    trial.parser.add_argument('--all', action='store_true', help='every Python, with each msgpack and SQLite')
    trial.parser.add_argument('--offline', action='store_true', help='take nothing from the network')
    trial.parser.add_argument('--write', metavar='FILE', type=pathlib.Path, help="write the newest release's file, and no more")
    options = trial.begin()
    if options.write:
        sys.exit(write_release(options.write))
    with tempfile.TemporaryDirectory() as work:
        work, count = pathlib.Path(work).resolve(), 0
        wanted = [*wanted_combinations(options.all)]
        combinations = each(wanted, lambda number, one: one.prepare(work / str(number), options.offline),
                            lambda missing: print('cannot be had:', missing, flush=True))
        print(*[combination.name for combination in combinations], sep='\n', flush=True)
        for number in range(options.rounds):
            wrote = each(combinations, lambda _, one, number=number: one.write(f'{options.seed}.{number}'), trial.broke)
            share(wrote)
            count += len(each(wrote, lambda _, one: one.act(read), trial.broke)) * (2 * len(wrote) + len(RELEASES))
    trial.end(f'{len(combinations)} combinations, {options.rounds} rounds: {count} files of all of them and of '
              f'{len(RELEASES)} releases read, changed and checked')


if __name__ == '__main__':
    if '--role' in sys.argv:
        import vaults
        release(RELEASES[-1]).register(vaults)
    play_role()
    main()
