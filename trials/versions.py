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

HERE = pathlib.Path(__file__).resolve().parent
FILES = HERE / 'files'
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

@functools.lru_cache(maxsize=None)
def release(name):
    """Import the module beside a file of a release."""
    spec = importlib.util.spec_from_file_location(f'release_{name.replace(".", "_")}', FILES / f'{name}.py')
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # there: models with its Points are pickled
    spec.loader.exec_module(module)
    return module


def releases():
    return sorted(path.stem for path in FILES.glob('*.db'))


def form(value):
    """Return what a value is, with the type of every part: 1, 1.0 and True differ. Sets are sorted."""
    if isinstance(value, dict):
        return type(value).__name__, [(form(key), form(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [form(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return type(value).__name__, sorted(repr(form(item)) for item in value)
    return type(value).__name__, repr(value)


def agree(found, expected, what):
    """Raise when two things differ, in type or value at any depth."""
    if form(found) != form(expected):
        raise AssertionError(f'{what}: {str(found)[:500]} instead of {str(expected)[:500]}')


def compare(v, model):
    """Compare a vault with the dict that is its model: order, types, walks, and what check() finds."""
    v._check()
    agree(list(v), list(model), 'the keys')
    agree([plain(value) for value in v.values()], list(model.values()), 'the values')
    agree([plain(v[key]) for key in list(v)[::7]], list(model.values())[::7], 'the values, read by key')
    agree(list(reversed(v)), list(model)[::-1], 'the keys, backwards')
    names = sorted(key for key in model if isinstance(key, str) and '\ud800' not in key)  # a kind of its own
    agree(list(v['':'\U0010ffff']), names, 'the text keys, sorted')
    inside = {key: model[key] for key in names if 'k1' <= key < 'k5'}
    agree(dict(v['k1':'k5'].items()), inside, 'a slice')
    agree(list(v.prefix('k2')), [key for key in names if key.startswith('k2')], 'a prefix')


def plain(value):
    """Return the plain list of a live one."""
    return value.tolist() if hasattr(value, 'tolist') else value


def dict_scene(v, model, rng, table):
    """Change a vault and its model by random operations: single ones, in blocks, and blocks that fail."""
    for _ in range(150):
        key = rng.choice((f'k{rng.randrange(100)}', rng.randrange(2, 100), ('k', rng.randrange(100)),
                          rng.choice(list(table.KEYS))))
        value = rng.choice([*table.VALUES.values(), *range(20)])
        operation = rng.randrange(9)
        if operation < 4:
            v[key] = model[key] = value
        elif operation == 4:
            agree(v.pop(key, None), model.pop(key, None), 'pop')
        elif operation == 5 and model:
            newest, item = v.popitem()
            agree((newest, plain(item)), model.popitem(), 'popitem')
        elif operation == 6:
            pairs = [(f'k{rng.randrange(100)}', rng.randrange(1000)) for _ in range(30)]
            v.update(pairs)
            model.update(pairs)
        elif operation == 7:
            block_scene(v, model, rng)
        else:
            agree(v.setdefault(key, value), model.setdefault(key, value), 'setdefault')


def block_scene(v, model, rng):
    """Write in a block with one inside that fails, and in one that fails as a whole."""
    with v:
        v['k in a block'] = model['k in a block'] = rng.random()
        with contextlib.suppress(ZeroDivisionError), v.transaction():
            v['k never'] = 1
            raise ZeroDivisionError
    with contextlib.suppress(ZeroDivisionError), v:
        v.clear()
        raise ZeroDivisionError
    with v.edit('k edited', []) as items:
        items.append(rng.random())
        model['k edited'] = [*model.get('k edited', []), items[-1]]


def slice_scene(v, model):
    agree(v.get_many(['k1', 'k2', 'k none']), {key: model[key] for key in ('k1', 'k2') if key in model}, 'get_many')
    agree(v.has_keys(model), True, 'has_keys')
    del v['k8':'k9']
    for key in [key for key in model if isinstance(key, str) and 'k8' <= key < 'k9']:
        del model[key]
    agree(v.pop_many(['k30', 'k31']), {key: model.pop(key) for key in ('k30', 'k31') if key in model}, 'pop_many')
    for key in v:  # a walk while it writes
        if isinstance(key, int):
            v['k int'] = v.pop(key)
            model['k int'] = model.pop(key)


def parts_scene(v, model, rng):
    """Grow, cut and change a list, a column, streams and a section."""
    log, kept = v.list('list'), model.setdefault('list', [])
    for target in (log, kept):
        target.extend((number, {'text': 'x' * (number % 50)}) for number in range(300))
        target[5:50] = ['new', None]
        target.insert(3, 2**70)
        del target[-2]
    agree((log.pop(0), log[100:103], len(log)), (kept.pop(0), kept[100:103], len(kept)), 'a list')
    temperatures = v.column('column', 'int32')
    temperatures.extend(range(3000))
    temperatures[7] = -1
    temperatures.pop()
    model['column'] = [*model.get('column', []), *range(3000)]
    model['column'][7] = -1
    model['column'].pop()
    model['stream'] = bytes(rng.randrange(256) for _ in range(1000)) * 600
    with v.open('stream', 'wb') as file:
        file.write(model['stream'])
    with v.open('stream', 'r+b') as file:
        file.seek(300_000)
        file.write(b'middle')
    with v.open('stream', 'ab') as file:
        file.write(b'end')
    model['stream'] = model['stream'][:300_000] + b'middle' + model['stream'][300_006:] + b'end'
    users = v.section('users')
    users['ann'] = model['users', 'ann'] = {'age': rng.random()}
    users.section('ann')['mail'] = model['users', 'ann', 'mail'] = ['a@b']
    agree((len(users), 'users' in v.sections()), (2, True), 'a section')


def live_scene(vaults, v, model):
    """Change objects in place in a write-back vault on the same file."""
    with contextlib.closing(vaults.Vault(pathlib.Path(v.db_path), writeback=True, cache_size=5)) as live:
        for number in range(20):
            live.setdefault(f'live {number}', []).append(number)
            model.setdefault(f'live {number}', []).append(number)
        live['live 3'].append('again')
        model['live 3'].append('again')


def count_up(v, times):
    for _ in range(times):
        with v:
            v['count'] += 1


def writers_scene(vaults, v, model):
    """Let threads, processes and a fork count in one entry at once: none of the steps may be missing."""
    v['count'] = 0
    code = f'import sys; sys.path[:0] = {[str(HERE), str(HERE.parent)]!r}; import pathlib, vaults, versions; ' \
           f'versions.count_up(vaults.Vault(pathlib.Path({v.db_path!r})), 20)'
    others = [subprocess.Popen([sys.executable, '-c', code])]
    threads = [threading.Thread(target=count_up, args=(v, 20)) for _ in range(3)]
    child = hasattr(os, 'fork') and os.fork()  # before the threads are there
    if hasattr(os, 'fork') and not child:
        status = 1
        try:
            count_up(v, 20)
            status = 0
        finally:
            os._exit(status)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    agree([other.wait() for other in others], [0], 'the status of a process')
    agree(os.waitpid(child, 0)[1] if child else 0, 0, 'the status of a fork')
    model['count'] = 80 + 20 * bool(child)


def upkeep_scene(vaults, v, model, folder):
    v.backup(folder / 'backup.db')
    with contextlib.closing(vaults.Vault(folder / 'backup.db', to_create=False)) as copy:
        compare(copy, model)
    v.compact()
    v.sync()


def play(vaults, path, seed):
    """Play the whole scene in a new vault, which is left closed; return the model."""
    table, rng, model = release(releases()[-1]), random.Random(seed), {}
    v = vaults.Vault(path, allow_pickle=table.PICKLED)
    for _ in range(2):
        dict_scene(v, model, rng, table)
        slice_scene(v, model)
        parts_scene(v, model, rng)
        compare(v, model)
        v.close()
        v = vaults.Vault(path, allow_pickle=table.PICKLED)
    live_scene(vaults, v, model)
    writers_scene(vaults, v, model)
    upkeep_scene(vaults, v, model, path.parent)
    compare(v, model)
    v.close()
    return model


def crash(vaults, path):
    """Write with the log left behind: the process kills itself inside a block, after commits that are there alone."""
    v = vaults.Vault(path)
    v.update((f'k{number}', number) for number in range(50))
    v.list('list').extend(range(500))
    del v['k7']
    with v:
        v['k half'] = 1
        v.list('list').append('half')
        os.kill(os.getpid(), signal.SIGKILL)


CRASHED = {**{f'k{number}': number for number in range(50) if number != 7}, 'list': list(range(500))}


def cross(vaults, path, expected):
    """Open a file of another combination, compare it, change it, open it again and compare."""
    v, table = vaults.Vault(path, to_create=False, allow_pickle=True), release(releases()[-1])
    compare(v, expected)
    rng = random.Random(str(path.name))
    dict_scene(v, expected, rng, table)
    parts_scene(v, expected, rng)
    v.close()
    with contextlib.closing(vaults.Vault(path, to_create=False, allow_pickle=True)) as v:
        compare(v, expected)


def read_release(vaults, name, folder):
    """Open a copy of a release's file, compare it with its table, write to it and check it."""
    table, path = release(name), folder / f'{name}.db'
    shutil.copy(FILES / f'{name}.db', path)
    agree(hashlib.sha256(path.read_bytes()).hexdigest(), table.SHA256, f'{name}.db')
    with contextlib.closing(vaults.Vault(path, flag='r', allow_pickle=table.PICKLED)) as v:
        agree(table.differences(v), [], f'{name}.db')
    with contextlib.closing(vaults.Vault(path, to_create=False, allow_pickle=table.PICKLED)) as v:
        v['written later'] = 1
        found = v.pop('written later'), len(v), table.differences(v)
        agree(found, (1, len(table.EXPECTED), []), f'{name}.db, written')


def write_release(vaults, path):
    """Write the file of the newest release, with a stopped clock and no chance in it."""
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


def act(mode, folder, seed):
    """Be the Python under trial, in a folder: play the scene, crash, or read the copies that lie there."""
    import vaults
    for name in releases()[-1:]:
        release(name).register(vaults)
    if mode == '--scene':
        (folder / 'scene.model').write_bytes(pickle.dumps(play(vaults, folder / 'scene.db', seed), 4))
    elif mode == '--crash':
        crash(vaults, folder / 'crash.db')
    else:
        for path in sorted(folder.glob('*.scene.db')):
            cross(vaults, path, pickle.loads(path.with_suffix('.model').read_bytes()))
        for path in sorted(folder.glob('*.crash.db')):
            cross(vaults, path, {**CRASHED, 'list': list(CRASHED['list'])})
        for name in releases():
            read_release(vaults, name, folder)


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
        path = [HERE.parent]
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

    def act(self, mode, seed='', status=0):
        """Run a mode of this program in it; raise when it ends otherwise than with `status`."""
        done = subprocess.run([self.python, '-W', 'error', __file__, mode, str(self.folder), seed], env=self.env,
                              capture_output=True, text=True, timeout=900)
        if done.returncode != status:
            raise AssertionError(f'{mode[2:]} ended with {done.returncode}: {last_line(done.stderr)}')

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
                               HERE.parent / 'tests.py', '--basetemp', self.folder / 'pytest'],
                              env=env, capture_output=True, text=True, cwd=HERE.parent)
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
    combination.act('--scene', seed)
    combination.act('--crash', status=-signal.SIGKILL)
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
        import vaults
        write_release(vaults, options.write)
        return
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work).resolve()
        combinations = prepared(wanted_combinations(options), work, Packages(work, options.offline))
        for combination in combinations:
            print(combination.name, flush=True)
        read = 0
        for number in range(options.rounds):
            wrote = each(trial, combinations, lambda one, number=number: write(one, f'{options.seed}.{number}'))
            share(wrote)
            read += len(each(trial, wrote, lambda one: one.act('--read'))) * (2 * len(wrote) + len(releases()))
        if options.suite:
            run_suites(trial, combinations)
    trial.end(f'{len(combinations)} combinations, {options.rounds} rounds: {read} files of all of them and of '
              f'{len(releases())} releases read, changed and checked')


if __name__ == '__main__':
    if sys.argv[1:2] in (['--scene'], ['--crash'], ['--read']):
        act(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3])
    else:
        main()
