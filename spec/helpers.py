"""What several parts of the specification use: where things are, fixtures, programs in processes of their own."""
from __future__ import annotations

import contextlib
import datetime as dt
import gc
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from hypothesis import HealthCheck, given, settings

import vaults
from vaults import Vault
from vaults.codecs import registry

from . import servers

HERE = pathlib.Path(__file__).parent.parent
TESTDATA = HERE / 'testdata'
LINUX = sys.platform.startswith('linux')
needs_fork = pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork on this system')
needs_posix = pytest.mark.skipif(os.name == 'nt', reason='signals and terminals are other things there')
needs_root = pytest.mark.skipif(not LINUX or os.geteuid() != 0, reason='becomes another user, which only root may')
settings.register_profile('vaults', deadline=None, max_examples=45, suppress_health_check=list(HealthCheck))
settings.load_profile('vaults')
os.environ.pop('PYTHONDONTWRITEBYTECODE', None)  # hundreds of processes would each compile vaults anew: twice the time of a start
UTC = dt.timezone.utc


@pytest.fixture(scope='class', autouse=True)
def frozen():
    """Keep what is there for good, most of it modules, out of the collections of garbage: each would look through all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def root(tmp_path):
    vaults.set_root_path(tmp_path)
    yield tmp_path
    vaults.set_root_path(None)


@pytest.fixture(scope='session')
def server():
    """The PostgreSQL server that all tests share; a test that restarts it, or ends connections, takes a `servers.Server()` of its own."""
    try:
        return servers.postgres()
    except servers.MissingServerError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def v(root, request):
    vault = Vault('test', store=getattr(request.cls, 'make_engine', lambda: None)())  # see engines.py
    yield vault
    if 'closed' not in repr(vault):
        vault._check()
        vault.close()


@pytest.fixture
def hears_ctrl_c():
    """Hear of Ctrl-C, which what a shell runs in the background ignores, and so do the processes that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def forget():
    """Forget the types that a test registers."""
    kept = dict(registry.by_class), dict(registry.by_name)
    yield
    for table, old in zip((registry.by_class, registry.by_name), kept):
        table.clear()
        table.update(old)


def in_few_examples(test, **strategies):
    """Return a test of Hypothesis with fewer examples, for where each step is many requests to a server."""
    return settings(max_examples=12)(given(**strategies)(test.hypothesis.inner_test))


def run(code, *arguments, **options):
    """Run a program in a Python of its own, with warnings as errors; return its completed process."""
    env = {**os.environ, 'PYTHONPATH': str(HERE), **options.pop('env', {})}
    return subprocess.run([sys.executable, '-W', 'error', '-c', textwrap.dedent(code), *map(str, arguments)], env=env,
                          capture_output=True, text=True, timeout=60, **options)


def output(code, *arguments, **options):
    done = run(code, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def in_child(function):
    """Fork, run `function` in the child, and return what it returned or raised there."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = function()
        except BaseException as error:
            answer = repr(error)
        os.write(writer, pickle.dumps(answer))
        os._exit(0)
    os.close(writer)
    return Child(child, reader)


@contextlib.contextmanager
def word():
    """Give what a forked child waits by, and what lets it go on."""
    reader, writer = os.pipe()
    try:
        yield lambda: os.read(reader, 1), lambda: os.write(writer, b'.')
    finally:
        os.close(reader)
        os.close(writer)


class Child:
    def __init__(self, process, reader):
        self.process, self.reader = process, reader

    def answer(self):
        data = b''.join(iter(lambda: os.read(self.reader, 65536), b''))
        os.close(self.reader)
        os.waitpid(self.process, 0)
        return pickle.loads(data)


def crowd(work, count, *argument_lists):
    """Run `work` in `count` threads at once; raise what any of them raised."""
    problems = []
    barrier = threading.Barrier(count)

    def guarded(*arguments):
        barrier.wait()
        try:
            work(*arguments)
        except BaseException as error:
            problems.append(error)
    lists = argument_lists or [()] * count
    threads = [threading.Thread(target=guarded, args=arguments) for arguments in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


@contextlib.contextmanager
def block_elsewhere(v, key):
    """Have another thread in a block that has set `key`; it ends when the event that this gives is set, or with this."""
    inside, leave = threading.Event(), threading.Event()

    def block():
        with v:
            v[key] = 1
            inside.set()
            leave.wait(10)
    thread = threading.Thread(target=block)
    thread.start()
    inside.wait(10)
    try:
        yield leave
    finally:
        leave.set()
        thread.join()


def open_files():
    return len(os.listdir('/proc/self/fd')) if LINUX else 0


TASK_KINDS = {
    'plain': lambda: Vault('t'), 'thread_safe': lambda: Vault('t', thread_safe=True), 'memory': lambda: Vault(':memory:'),
    'writeback': lambda: Vault('t', writeback=True), 'writeback in memory': lambda: Vault(':memory:', writeback=True),
    'section': lambda: Vault('t').section('s'), 'section in memory': lambda: Vault(':memory:').section('s'),
    'writeback section': lambda: Vault('t', writeback=True).section('s'),
    'shelf': lambda: vaults.open('t'),
    'validating': lambda: Vault('t', validate=lambda key, value: None),
    'validating writeback': lambda: Vault('t', writeback=True, validate=lambda key, value: None)}


def block_over(v, key='held', block=None):
    """Hold a block over a yield."""
    with block or v.transaction():
        v[key] = 1
        yield
        v[key] = 2


def in_thread(function):
    """Return what `function` returns in another thread."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(function()), daemon=True)
    thread.start()
    thread.join(10)
    return answers[0]


def interrupted(act, at, where):
    """Do the act, with KeyboardInterrupt raised before its line `at` in vaults, which `where` tells; tell whether it came so far.

    Nothing written in Python can help when __exit__, commit or rollback is interrupted before its first line.
    """
    left = [at]

    def trace(frame, event, argument):
        name, line = frame.f_code.co_name, frame.f_lineno - frame.f_code.co_firstlineno
        if event == 'call':
            return trace if 'vaults' in frame.f_globals['__name__'] else None
        first = name in ('commit', 'rollback') and line <= 2
        if event == 'line' and not first and (name not in ('__enter__', '__exit__') or frame.f_globals['__name__'] != 'vaults.vault'):
            left[0] -= 1
            if not left[0]:
                sys.settrace(None)
                where[:] = name, frame.f_lineno
                raise KeyboardInterrupt
        return trace
    before = sys.gettrace()
    try:
        sys.settrace(trace)
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return left[0] <= 0


@contextlib.contextmanager
def signalled(at, handler, where='', unit='line'):
    """Have a signal handler at that line, or opcode, of what is called of vaults, or of one file of it; tell how many were left."""
    place, before, left = os.path.join(os.path.dirname(vaults.__file__), where), sys.gettrace(), [at]

    def trace(frame, event, argument):
        if not frame.f_code.co_filename.startswith(place):
            return None
        frame.f_trace_opcodes = unit == 'opcode'
        left[0] -= event == unit
        if not left[0]:
            sys.settrace(before)
            handler()
            return None
        return trace
    gc.disable()
    try:
        sys.settrace(trace)
        yield left
    finally:
        sys.settrace(before)
        gc.enable()


def is_free(lock):
    free = lock.acquire(blocking=False)
    if free:
        lock.release()
    return free


def raw_entries(v):
    return [entry for page in v._store.scan() for entry in zip(map(repr, page[0]), page[1])]


MIGRATING = HERE / 'docs' / 'migrating.md'
ON_A_SERVER = HERE / 'docs' / 'postgresql.md'
PAGES = [HERE / 'README.md', *sorted(page for page in (HERE / 'docs').glob('*.md') if page not in (MIGRATING, ON_A_SERVER))]
