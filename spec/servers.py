"""Private PostgreSQL servers, for tests, trials and benchmarks: on loopback, in a folder of their own, gone with who began them.

Nothing here knows pytest. Where there is no PostgreSQL or no psycopg, or the environment has VAULTS_WITHOUT_SERVERS, `postgres()`
raises `MissingServerError`, which says so.
"""
from __future__ import annotations

import atexit
import contextlib
import functools
import glob
import importlib.util
import itertools
import os
import pathlib
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

# What is lost when the machine fails is nobody's here, and a commit waits for no disk. So many sleep that a test never meets the limit.
SETTINGS = {'fsync': 'off', 'max_connections': 200, 'listen_addresses': '127.0.0.1', 'unix_socket_directories': ''}
PGBOUNCER = '''
[databases]
* = host=127.0.0.1 port={to} user=vaults
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
server_login_retry = 0.1
logfile = {folder}/log
pidfile = {folder}/pid
'''


class MissingServerError(unittest.SkipTest):
    """What a private server needs is not on this machine: a test that it comes out of is skipped."""


def server_programs():
    """Return the folder of the newest PostgreSQL's programs."""
    if os.environ.get('VAULTS_WITHOUT_SERVERS'):
        raise MissingServerError('VAULTS_WITHOUT_SERVERS is set')
    found = sorted(glob.glob('/usr/lib/postgresql/*/bin/initdb'), key=lambda path: float(path.split('/')[4]))
    path = found[-1] if found else shutil.which('initdb')
    if not path:
        raise MissingServerError('there is no PostgreSQL on this machine: apt-get install postgresql')
    if not importlib.util.find_spec('psycopg'):
        raise MissingServerError("psycopg is not installed: pip install 'vaults[postgres]'")
    return os.path.dirname(os.path.realpath(path))


def unprivileged():
    """Return the user as whom a server runs, and what comes before its commands: PostgreSQL does not run as root."""
    if os.geteuid():
        return None, []
    import pwd
    user = next(entry.pw_name for name in ('postgres', 'nobody') for entry in pwd.getpwall() if entry.pw_name == name)
    return user, ['runuser', '-u', user, '--']


def free_port():
    """Return a free port, below those that systems give to whoever connects: one of these may be taken before it is used."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)  # others choose at the same time, and tests seed `random`
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(('127.0.0.1', port))
            return port


def processes():
    """Return the state and the parent of each process; where there is no /proc, of none."""
    found = {}
    for path in glob.glob('/proc/[0-9]*/stat'):
        with contextlib.suppress(OSError), open(path, errors='replace') as file:
            state, parent = file.read().rpartition(')')[2].split()[:2]
            found[int(path.split('/')[2])] = state, int(parent)
    return found


class PrivateProgram:
    """A server in a folder of its own: the folder, a free port, and a shell that ends it when this process ends.

    The shell waits for a line, or for the end of a pipe that this process holds: so a server goes with its test session also when
    that is killed. Of a fork, only the process that began the server ends it.
    """

    def __init__(self, as_it_is=False):
        self.user, self.become = (None, []) if as_it_is else unprivileged()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='vaults-server-'))
        if self.user:
            shutil.chown(self.folder, self.user, self.user)
        self.port, self.began_in, self.guard = free_port(), os.getpid(), None

    def run(self, *command):
        """Run a command as the unprivileged user; raise what it said when it failed."""
        # PGHOST and its like are about another server. In a file: a server inherits the output, and never closes it.
        with open(self.folder / 'said', 'w+') as said:
            done = subprocess.run([*self.become, *map(str, command)], stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=120,
                                  cwd=str(self.folder), start_new_session=True, env=self.environment())
            said.seek(0)
            if done.returncode:
                raise RuntimeError(f'{shlex.join(map(str, command))}: {said.read()}')

    def environment(self):
        return {name: value for name, value in os.environ.items() if not name.startswith('PG')}

    def guard_with(self, *end):
        """Have a shell run the command `end`, and remove the folder, when this process tells it or ends."""
        command = shlex.join([*self.become, *map(str, end)])
        self.guard = subprocess.Popen(['sh', '-c', f'read line; {command}; cd /; rm -rf {shlex.quote(str(self.folder))}'],
                                      stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                      cwd=str(self.folder), start_new_session=True, env=self.environment())
        atexit.register(self.stop)

    def stop(self):
        """End the server and remove its folder; more than once does nothing."""
        if self.guard and self.began_in == os.getpid():
            guard, self.guard = self.guard, None
            guard.communicate(b'\n', timeout=60)
            atexit.unregister(self.stop)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def url(self, database='postgres', **parameters):
        query = '&'.join(f'{name}={value}' for name, value in parameters.items())
        return f'postgresql://vaults@127.0.0.1:{self.port}/{database}' + (query and '?' + query)


class Server(PrivateProgram):
    """A PostgreSQL cluster, running: `Server()` takes some two seconds. `copy_of` makes it a streaming standby of another."""

    count = itertools.count(1)

    def __init__(self, copy_of=None, **settings):
        super().__init__()
        self.bin, self.data = server_programs(), self.folder / 'data'
        self.settings = {**SETTINGS, **settings}
        if copy_of:
            self.run(f'{self.bin}/pg_basebackup', '-d', copy_of.url(), '-D', self.data, '-R', '-c', 'fast')
        else:
            self.run(f'{self.bin}/initdb', '-D', self.data, '-U', 'vaults', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync')
        self.guard_with(f'{self.bin}/pg_ctl', '-D', self.data, '-m', 'immediate', '-w', 'stop')
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def control(self, *command):
        self.run(f'{self.bin}/pg_ctl', '-D', self.data, '-w', '-t', 60, '-l', self.folder / 'log', *command)

    def start(self):
        options = ' '.join(f"-c {name}='{value}'" for name, value in {**self.settings, 'port': self.port}.items())
        self.control('-o', options, 'start')

    def restart(self, mode='fast'):
        """Stop the server and start it again, on the same port: 'fast' breaks connections off, 'immediate' is a crash of it."""
        self.control('-m', mode, 'stop')
        self.start()

    def kill(self):
        """End all processes of the server with SIGKILL; `start()` recovers it."""
        leader = int((self.data / 'postmaster.pid').read_text().split()[0])
        family = [leader, *(process for process, (_, parent) in processes().items() if parent == leader)]
        for process in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        wait_for(lambda: all(processes().get(process, 'Z')[0] == 'Z' for process in family))
        (self.data / 'postmaster.pid').unlink()  # which would be believed until init has forgotten the process

    def sql(self, statement, *parameters, database='postgres'):
        """Return the rows of a statement, each in a transaction and a connection of its own."""
        import psycopg
        with contextlib.closing(psycopg.connect(self.url(database), autocommit=True)) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def database(self):
        """Make a database and return its name; that takes some 30 ms."""
        name = f'database{next(self.count)}'
        self.sql(f'CREATE DATABASE {name}')
        return name

    def vault(self, database='postgres'):
        """Return the URL of a vault that is not there yet."""
        return self.url(database, vault=f'vault{next(self.count)}')

    def end_backends(self, database):
        """End all other connections to a database; return how many there were."""
        return len(self.sql('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()',
                            database))

    def configure(self, name, value):
        """Change a setting of the running server."""
        self.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        self.sql('SELECT pg_reload_conf()')

    def standby(self, synchronous=False):
        """Return a streaming standby of this server; a synchronous one is waited for by each commit."""
        standby = Server(copy_of=self)
        if synchronous:
            self.configure('synchronous_standby_names', '*')
        wanted = 'sync' if synchronous else 'async'
        wait_for(lambda: self.sql('SELECT sync_state FROM pg_stat_replication WHERE state = %s', 'streaming') == [(wanted,)])
        return standby

    def promote(self):
        """Make a standby a primary."""
        self.control('promote')

    def bouncer(self):
        """Return a PgBouncer before this server, in transaction mode."""
        return PgBouncer(self)


class PgBouncer(PrivateProgram):
    """PgBouncer in transaction mode before a server: each transaction gets one of eight connections."""

    def __init__(self, server):
        super().__init__()
        program = shutil.which('pgbouncer', path=os.environ.get('PATH', '') + ':/usr/sbin')
        if not program:
            self.folder.rmdir()
            raise MissingServerError('there is no PgBouncer on this machine: apt-get install pgbouncer')
        (self.folder / 'ini').write_text(PGBOUNCER.format(to=server.port, port=self.port, folder=self.folder))
        self.guard_with('sh', '-c', 'kill -9 $(cat pid)')
        self.program = program
        self.start()

    def start(self):
        self.run(self.program, '-d', 'ini')
        wait_for(lambda: socket.create_connection(('127.0.0.1', self.port)).close() is None)

    def kill(self):
        """End it with SIGKILL; `start()` begins it again."""
        pid = self.folder / 'pid'
        process = int(pid.read_text())
        os.kill(process, signal.SIGKILL)
        wait_for(lambda: processes().get(process, 'Z')[0] == 'Z')
        pid.unlink()


def wait_for(condition, seconds=20):
    """Wait until the condition holds; an OSError is a condition that does not."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        if time.monotonic() > end:
            raise TimeoutError(f'not so after {seconds} s')
        time.sleep(.02)


@functools.lru_cache(maxsize=None)
def postgres():
    """Return the server that all tests of this process share; it is started for the first of them."""
    server_programs()
    return Server()


class TestServers:
    """Tests that need a server get one, and leave none."""

    def test_a_server_goes_with_the_process_that_began_it_however_that_ends(self, server):
        code = 'from spec.servers import Server; s = Server(); print(s.folder, s.port, flush=True); input()'
        for end in ('close', 'kill'):
            with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                  cwd=str(pathlib.Path(__file__).parent.parent)) as program:
                folder, port = program.stdout.readline().split()
                socket.create_connection(('127.0.0.1', int(port))).close()
                program.kill() if end == 'kill' else program.stdin.close()
            wait_for(lambda folder=folder: not os.path.exists(folder))
            with contextlib.closing(socket.socket()) as probe:
                assert probe.connect_ex(('127.0.0.1', int(port)))

    def test_a_killed_server_recovers_what_was_committed(self, server):
        with Server() as own:
            name = own.database()
            own.sql('CREATE TABLE kept AS SELECT 1 AS n', database=name)
            own.kill()
            own.start()
            assert own.sql('SELECT n FROM kept', database=name) == [(1,)]
