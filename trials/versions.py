"""Run one scene on old and new Pythons, SQLites and msgpacks; let each read, change and check what the others wrote.

    python trials/versions.py [--rounds N] [--seed S] [--all] [--sqlite LIBRARY] [--suite] [--offline]

A combination is a Python, an SQLite and a msgpack. In each a scene goes over the whole surface beside a dict as its
model, and leaves two files: one closed, and one whose last commits are in the log that a killed process left. Then each
combination opens copies of all these files, and of those that the releases have left in trials/files/, compares,
changes and checks them.

The short measure takes this Python as it is, and with msgpack in pure Python; the oldest CPython found, with msgpack
1.0.0 and SQLite 3.35; and the newest one, with the newest of both that pip has. `--all` takes every CPython of PATH and
of pyenv, free-threaded ones too, with each of these in turn. `--sqlite FILE`, which may be given again, puts a
libsqlite3.so of yours before that of every Python. `--suite` runs tests.py in each combination, where pytest can be
had: that takes long. Old and new packages come from pip, into a temporary folder. What cannot be had is left out, and
said. Prints a line for each combination and one of figures; exits with 1 when a promise broke.

SQLite comes from the wheels of pysqlite3-binary: its extension carries a whole SQLite and shows its functions. Under
the name of the system's library, in a folder that LD_LIBRARY_PATH names, the standard sqlite3 runs on it, on Linux.
"""
from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import itertools
import json
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
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

from shared import ROOT, TRIALS
from shared.model import Draw, Model, attempt, entries
from shared.processes import Process, Told, as_role, play_role, role, run
from shared.values import typed

FILES = TRIALS / 'files'
OLD_SQLITE = 'pysqlite3-binary==0.4.6 --platform manylinux1_x86_64'  # 3.35.4; that for CPython 3.8 fits up to 3.10
NEW_SQLITE = 'pysqlite3-binary'
OLD_MSGPACK = 'msgpack==1.0.0'  # compiled for CPython 3.5 to 3.8; its Python part runs on all
PROBE = '''
import json, platform, sqlite3, sys, msgpack
maps = open("/proc/self/maps").read() if sys.platform == "linux" else ""
libraries = [line.split(" ")[-1] for line in maps.splitlines() if "sqlite3" in line]
print(json.dumps([platform.python_version(), sqlite3.sqlite_version, list(msgpack.version), msgpack.Packer.__module__,
                  getattr(sys, "_is_gil_enabled", lambda: True)(), "".join(libraries)]))
'''
TAGS = '''
import platform, sys, sysconfig
if sys.version_info >= (3, 8) and platform.python_implementation() == "CPython":
    print(sys.version_info[0], sys.version_info[1], int("t" in sys.abiflags), sys.executable)
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
    agree([v[key] for key in list(v)[::7] if type(model[key]) is not list], list(filter(
        lambda value: type(value) is not list, list(model.values())[::7])), 'the values, read by key')
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


@role
def count_up(path):
    add_up(opened(pathlib.Path(path)))


def add_up(v, *_):
    for _ in range(100):
        with v:
            v['count'] += 1


def count_together(v, model):
    """Let threads, a process and a fork count in one entry at once: none of the steps may be missing."""
    v['count'], codes = 0, []
    child = [Process(add_up, v)] if hasattr(os, 'fork') else []  # before the threads are there
    threads = [threading.Thread(target=add_up, args=(v,)) for _ in range(3)]
    threads.append(threading.Thread(target=lambda: codes.append(run(as_role(count_up, v.db_path)).code)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    agree([*codes, *(one.join() for one in child)], [0] * (1 + len(child)), 'how a process and a fork ended')
    model['count'] = 400 + 100 * len(child)


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
    """Write the file of the newest release, with a stopped clock and no chance in it."""
    import vaults
    table = release(max(path.stem for path in FILES.glob('*.py')))
    table.register(vaults)
    rng = random.Random(1)
    with mock.patch('time.time', lambda: 1_795_257_000.0), mock.patch('random.getrandbits', rng.getrandbits), \
            mock.patch('os.urandom', lambda size: bytes(rng.randrange(256) for _ in range(size))), \
            contextlib.closing(vaults.Vault(path, flag='n', allow_pickle=table.PICKLED)) as v:
        table.fill(v)
        v.compact()
        problems = table.differences(v)
    if problems:
        sys.exit('\n'.join(problems))


# --- the combinations -----------------------------------------------------------------------------------------------

class Missing(Exception):
    """What a combination needs cannot be had here; the message says why."""


def last_line(text):
    return (text.strip().splitlines() or ['no message'])[-1][:200]


def pythons():
    """Return ((major, minor, free-threaded), path) of every CPython that vaults supports here, oldest first."""
    pyenv = pathlib.Path(os.environ.get('PYENV_ROOT', pathlib.Path.home() / '.pyenv'))
    folders = [pathlib.Path(folder) for folder in os.environ.get('PATH', '').split(os.pathsep) if folder]
    names = [path for folder in folders if folder.is_dir() for path in folder.iterdir()
             if re.fullmatch(r'python3(\.\d+)?t?', path.name)]
    found = {}
    for path in [*names, *sorted(pyenv.glob('versions/*/bin/python3'))]:
        with contextlib.suppress(OSError):  # a name without a program
            done = subprocess.run([path, '-c', TAGS], capture_output=True, text=True)
            if done.returncode == 0 and done.stdout:
                *tag, executable = done.stdout.strip().split(' ', 3)
                found.setdefault(tuple(map(int, tag)), executable)
    return sorted(found.items())


class Packages:
    """Folders with packages for other Pythons, from pip, each once. Any thread may ask."""

    def __init__(self, folder, offline):
        self.folder, self.offline, self.lock, self.found = folder, offline, threading.Lock(), {}

    def get(self, what, tag):
        """Return the folder with the wheel of a package for the Python with this tag. Raises: Missing."""
        with self.lock:
            if (what, tag) not in self.found:
                self.found[what, tag] = self._install(what, tag, self.folder / f'package{len(self.found)}')
            found = self.found[what, tag]
        if isinstance(found, str):
            raise Missing(f'{what} for Python {tag[0]}.{tag[1]}{"t" * tag[2]}: {found}')
        return found

    def _install(self, what, tag, target):
        if self.offline:
            return 'it would come from the network'
        abis = ['--abi', f'cp{tag[0]}{tag[1]}t', '--abi', 'none'] if tag[2] else []
        done = subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--disable-pip-version-check',
                               '--no-input', '--no-cache-dir', '--no-deps', '--only-binary', ':all:',
                               '--implementation', 'cp', '--python-version', f'{tag[0]}.{tag[1]}', *abis,
                               '--target', target, *what.split()], capture_output=True, text=True)
        return target if done.returncode == 0 else last_line(done.stderr)


class Combination:
    """A Python, a msgpack and an SQLite: how to run it, and what it turned out to be."""

    def __init__(self, tag, python, msgpack=None, sqlite=None, pure=False):
        self.tag, self.python, self.msgpack, self.sqlite, self.pure = tag, python, msgpack, sqlite, pure
        self.env = {**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'}
        self.env.pop('MSGPACK_PUREPYTHON', None)

    def prepare(self, folder, packages):
        """Get its parts into a folder and see that they are what runs. Raises: Missing."""
        self.folder = folder
        folder.mkdir()
        path = [ROOT]
        if self.msgpack:  # of the old one there is a wheel for 3.8, of which other Pythons take what is not compiled
            path.append(packages.get(self.msgpack, (3, 8, 0) if self.msgpack == OLD_MSGPACK else self.tag))
        if self.pure:
            self.env['MSGPACK_PUREPYTHON'] = '1'
        if self.tag[2]:
            self.env['PYTHON_GIL'] = '0'  # an extension that asks for it would bring it back
        self.env['PYTHONPATH'] = os.pathsep.join(map(str, path))
        if self.sqlite:
            self._put_before(self._library(packages))
        self._probe()

    def _library(self, packages):
        """Return a file that holds the wanted SQLite."""
        if os.path.exists(self.sqlite):
            return self.sqlite
        if not sys.platform.startswith('linux'):
            raise Missing(f'{self.sqlite}: another SQLite can be put before the system\'s on Linux alone')
        folder = packages.get(self.sqlite, (3, 8, 0) if self.sqlite == OLD_SQLITE else self.tag)
        return next(folder.glob('pysqlite3/_sqlite3*.so'))

    def _put_before(self, library):
        (self.folder / 'lib').mkdir()
        shutil.copy(library, self.folder / 'lib' / 'libsqlite3.so.0')
        before = [str(self.folder / 'lib'), self.env.get('LD_LIBRARY_PATH', '')]
        self.env['LD_LIBRARY_PATH'] = os.pathsep.join(filter(None, before))

    def _probe(self):
        done = subprocess.run([self.python, '-c', PROBE], env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise Missing(f'{self.wanted()}: {last_line(done.stderr)}')
        version, sqlite, msgpack, module, has_gil, libraries = json.loads(done.stdout)
        if self.sqlite and str(self.folder) not in libraries:
            raise Missing(f'{self.wanted()}: this Python has SQLite {sqlite} within itself')
        self.name = (f'Python {version}{"" if has_gil else " without the GIL"}, SQLite {sqlite}, msgpack '
                     f'{".".join(map(str, msgpack))}{" in pure Python" if module.endswith("fallback") else ""}')

    def wanted(self):
        """Say what it should be."""
        parts = [self.msgpack, self.sqlite, self.pure and 'msgpack in pure Python']
        return ' with '.join([f'Python {self.tag[0]}.{self.tag[1]}{"t" * self.tag[2]}', *filter(None, parts)])

    def act(self, function, seed='', code=0):
        """Play a role in it; raise when that ends otherwise than with `code`."""
        told: Told = run([self.python, '-W', 'error', *as_role(function, self.folder, seed)[3:]], hangs=900, env=self.env)
        if told.code != code:
            raise AssertionError(f'{function.__name__} ended with {told.code}: {last_line(told.complaints)}')

    def suite(self):
        """Run tests.py; return its last line, and whether it passed."""
        needed = ['pytest', 'hypothesis', self.msgpack or 'msgpack']
        env = {key: value for key, value in self.env.items() if key != 'PYTHONPATH'}
        for command in ([self.python, '-m', 'venv', self.folder / 'venv'],
                        [self.folder / 'venv/bin/pip', 'install', '-q', '--no-cache-dir', *needed]):
            done = subprocess.run(command, env={**env, 'LD_LIBRARY_PATH': ''}, capture_output=True, text=True)
            if done.returncode:
                raise Missing(f'the suite in {self.name}: {last_line(done.stderr)}')
        done = subprocess.run([self.folder / 'venv/bin/python', '-m', 'pytest', '-p', 'no:cacheprovider',
                               ROOT / 'tests.py', '--basetemp', self.folder / 'pytest'],
                              env=env, capture_output=True, text=True, cwd=ROOT)
        return done.returncode == 0, done.stdout


def wanted_combinations(options):
    """List what is to be tried: the short measure, or everything that this machine has."""
    this = (*sys.version_info[:2], int('t' in getattr(sys, 'abiflags', '')))
    found = pythons() or [(this, sys.executable)]
    ends = found if options.all else [found[0], found[-1]]
    yield Combination(this, sys.executable)
    yield Combination(this, sys.executable, pure=True)
    for library in options.sqlite:
        yield Combination(this, sys.executable, sqlite=library)
    for tag, python in dict(ends).items():
        if options.all:
            for parts in ({}, {'pure': True}, {'sqlite': OLD_SQLITE}, {'sqlite': NEW_SQLITE}):
                yield Combination(tag, python, 'msgpack', **parts)
            yield Combination(tag, python, OLD_MSGPACK)
        for library in options.sqlite:
            yield Combination(tag, python, 'msgpack', library)
    if not options.all:
        yield Combination(*found[0], OLD_MSGPACK, OLD_SQLITE)
        yield Combination(*found[-1], 'msgpack', NEW_SQLITE)


def prepared(wanted, work, packages):
    """Return the combinations that can be had; say of the others why not."""
    def prepare(numbered):
        number, combination = numbered
        try:
            combination.prepare(work / f'c{number}', packages)
        except Missing as missing:
            return f'left out: {missing}'
        return None
    wanted = list(wanted)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(prepare, enumerate(wanted)))
    for answer in filter(None, answers):
        print(answer, flush=True)
    return [combination for combination, answer in zip(wanted, answers) if not answer]


def share(combinations):
    """Give each combination copies of what all have written, under the names of their writers."""
    for reader in combinations:
        for number, writer in enumerate(combinations):
            for name in ('scene.db', 'scene.model', 'crash.db', 'crash.db-wal'):
                shutil.copy(writer.folder / name, reader.folder / f'{number}.{name}')


def each(trial, combinations, run):
    """Run something in each combination, as many at once as there are processors; return those that did not fail."""
    def attempt(combination):
        try:
            run(combination)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            trial.broke(f'{combination.name}: {error}')
            return None
        return combination
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [combination for combination in pool.map(attempt, combinations) if combination]


def write(combination, seed):
    """Let a combination write its two files, anew; see that the killed process left its log."""
    for path in combination.folder.glob('*.*'):
        path.unlink()
    combination.act(scene, seed)
    combination.act(crash, code=-signal.SIGKILL)
    if not (combination.folder / 'crash.db-wal').stat().st_size:
        raise AssertionError('the killed process left no log')


def run_suites(trial, combinations):
    def suite(combination):
        try:
            passed, output = combination.suite()
        except Missing as missing:
            print(f'left out: {missing}', flush=True)
            return
        print(f'tests.py, {combination.name}: {last_line(output)}', flush=True)
        if not passed:
            failed = [line for line in output.splitlines() if line.startswith(('FAILED', 'ERROR'))]
            raise AssertionError('tests.py failed: ' + '; '.join(failed)[:2000])
    each(trial, combinations, suite)


def main():
    from shared.verdict import Trial
    trial = Trial(__doc__, 1)
    trial.parser.add_argument('--all', action='store_true', help='every Python, with each msgpack and SQLite')
    trial.parser.add_argument('--sqlite', action='append', default=[], metavar='FILE', help='a libsqlite3.so to try')
    trial.parser.add_argument('--suite', action='store_true', help='run tests.py in each combination; long')
    trial.parser.add_argument('--offline', action='store_true', help='take nothing from the network')
    trial.parser.add_argument('--write', metavar='FILE', type=pathlib.Path,
                              help="write the newest release's file, and no more")
    options = trial.begin()
    if options.write:
        write_release(options.write)
        return
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work).resolve()
        combinations = prepared(wanted_combinations(options), work, Packages(work, options.offline))
        for combination in combinations:
            print(combination.name, flush=True)
        count = 0
        for number in range(options.rounds):
            wrote = each(trial, combinations, lambda one, number=number: write(one, f'{options.seed}.{number}'))
            share(wrote)
            count += len(each(trial, wrote, lambda one: one.act(read))) * (2 * len(wrote) + len(RELEASES))
        if options.suite:
            run_suites(trial, combinations)
    trial.end(f'{len(combinations)} combinations, {options.rounds} rounds: {count} files of all of them and of '
              f'{len(RELEASES)} releases read, changed and checked')


if __name__ == '__main__':
    if '--role' in sys.argv:
        import vaults
        release(RELEASES[-1]).register(vaults)
    play_role()
    main()
