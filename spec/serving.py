"""A server of vaults as a process of its own, for tests and trials: on loopback, over a root of its own, gone with who began it.

Nothing here knows pytest but the fixture. Where the server's packages are missing, or the environment has VAULTS_WITHOUT_SERVERS,
`serving()` raises `MissingServerError`, which says so.
"""
from __future__ import annotations

import contextlib
import functools
import http.client
import importlib.util
import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from .servers import MissingServerError, PrivateProgram, wait_for

ROOT = pathlib.Path(__file__).parent.parent


class Serving(PrivateProgram):
    """`vaults serve`, running.

    `words`: more of the command line; `tokens`: as for vaults.server.app; `root`: of vaults, a folder or URL; `constants`: of the
    server's rooms, by 'room.NAME', so that a test waits for no deadline of ten seconds; `env`: of its process.
    """

    count = itertools.count(1)

    def __init__(self, *words, tokens=None, root=None, constants=None, **env):
        for package in ('starlette', 'uvicorn', 'httptools'):
            if not importlib.util.find_spec(package):
                raise MissingServerError(f"{package} is not installed: pip install 'vaults[server]'")
        if os.environ.get('VAULTS_WITHOUT_SERVERS') or os.name == 'nt':
            raise MissingServerError('VAULTS_WITHOUT_SERVERS is set')
        super().__init__(as_it_is=True)
        self.words, self.env, self.constants, self.process = list(words), env, constants or {}, None
        self.root = root or self.folder / 'root'
        if root is None:
            self.root.mkdir()
        self.token = next(iter(tokens), None) if tokens else None
        if tokens is not None:
            self.words += ['--tokens', str(self.folder / 'tokens')]
            self.grant(tokens)
        self.guard_with('sh', '-c', 'kill -9 $(cat pid)')
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def grant(self, tokens):
        """Write the file of tokens, which the server reads again."""
        new = self.folder / 'tokens.new'
        new.touch(0o600)
        new.write_text(json.dumps(tokens))
        new.replace(self.folder / 'tokens')

    @property
    def url(self):
        return f'http://127.0.0.1:{self.port}'

    def url_of(self, name):
        """Return what `Vault` takes for the vault of a name."""
        return f'{self.url}/{name}'

    def name(self):
        """Return the name of a vault that is not there yet."""
        return f'vault{next(self.count)}'

    @property
    def log(self):
        """The lines of the server's log, each of them JSON."""
        return [json.loads(line) for line in (self.folder / 'log').read_text().splitlines()]

    def start(self):
        env = {name: value for name, value in os.environ.items() if name not in ('VAULTS_ROOT', 'VAULTS_TOKEN')}
        env.update(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED='1', **self.env)
        code = ''.join(f'import vaults.server.{name.partition(".")[0]}; vaults.server.{name} = {value!r}\n'
                       for name, value in self.constants.items())
        code += 'import sys; from vaults.cli import main; sys.exit(main())'
        command = [sys.executable, '-W', 'error', '-c', code, 'serve', '--root', str(self.root), '--port', str(self.port), *self.words]
        with open(self.folder / 'said', 'w') as said, open(self.folder / 'log', 'a') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=log, env=env, cwd=str(self.folder),
                                            start_new_session=True)
        (self.folder / 'pid').write_text(str(self.process.pid))

        def says_where():
            if self.process.poll() is not None:
                raise RuntimeError(f'{self.words}: {(self.folder / "log").read_text()}')
            return f':{self.port}' in (self.folder / 'said').read_text()
        wait_for(says_where)

    def signal(self, number):
        self.process.send_signal(number)

    def _end(self, number, seconds=30):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
        self.wait(seconds)

    def wait(self, seconds=30):
        """Wait until the process has ended; return its exit status."""
        if self.process is None:
            return None
        status = self.process.wait(seconds)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / 'pid').unlink()  # which another process may get
        return status

    def kill(self):
        """End the server with SIGKILL; `start()` begins it again."""
        self._end(signal.SIGKILL)

    def end(self):
        """Have the server end in good order; `start()` begins it again."""
        self._end(signal.SIGTERM)

    def restart(self):
        """End the server in good order, and begin it again at the same port, over the same root."""
        self.end()
        self.start()

    def stop(self):
        """End the server, and remove its folder with the root; more than once does nothing."""
        if self.began_in == os.getpid():
            self.kill()
        super().stop()

    # --- asking it ---

    def ask(self, method, path, body=None, **headers):
        """Return the answer to a request, by a connection of its own: `status`, `headers`, `body`, and `json()`."""
        with contextlib.closing(http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)) as connection:
            with contextlib.suppress(BrokenPipeError):  # of a body that is refused: the answer is there
                connection.request(method, path, body, {name.replace('_', '-'): value for name, value in headers.items()})
            return Answered(connection.getresponse())

    def metric(self, name):
        """Return one of the numbers of /metrics; this request is one of those that run."""
        headers = {'Authorization': f'Bearer {self.token}'} if self.token else {}
        lines = self.ask('GET', '/metrics', **headers).body.decode().splitlines()
        return next(float(line.rpartition(' ')[2]) for line in lines if line.rpartition(' ')[0] == name)

    def peak(self):
        """Return how many bytes of memory the server has had at once."""
        text = pathlib.Path(f'/proc/{self.process.pid}/status').read_text()
        return int(text.partition('VmHWM:')[2].split()[0]) << 10

    def raw(self, *pieces, seconds=30):
        """Send bytes as they are; return all that comes back until the server closes the connection."""
        with contextlib.closing(socket.create_connection(('127.0.0.1', self.port), timeout=seconds)) as connection:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    connection.sendall(piece)
            found = b''
            with contextlib.suppress(ConnectionError):
                for piece in iter(lambda: connection.recv(65536), b''):
                    found += piece
            return found


class Answered:
    """An answer, read to its end."""

    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def json(self):
        return json.loads(self.body)


@functools.lru_cache(maxsize=None)
def shared_serving():
    """Return the server without tokens that all tests of this process share; it is started for the first of them."""
    return Serving()


@pytest.fixture(scope='session')
def serving():
    """The server of vaults that all tests share, each with vaults of new names; a test that ends one takes a `Serving()` of its own."""
    try:
        return shared_serving()
    except MissingServerError as missing:
        pytest.skip(str(missing))


class TestServing:
    """Tests that need a server of vaults get one, and leave none."""

    def test_a_server_goes_with_the_process_that_began_it_however_that_ends(self, serving):
        code = 'from spec.serving import Serving; s = Serving(); print(s.folder, s.process.pid, flush=True); input()'
        for end in ('close', 'kill'):
            with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                  cwd=str(ROOT)) as program:
                folder, process = program.stdout.readline().split()
                os.kill(int(process), 0)
                program.kill() if end == 'kill' else program.stdin.close()
            wait_for(lambda folder=folder: not os.path.exists(folder))
            wait_for(lambda process=process: not is_running(int(process)))

    def test_a_server_that_was_killed_comes_back_with_what_it_had(self, serving):
        with Serving() as own:
            assert own.ask('PUT', '/v1/vaults/kept').status == 201
            assert own.ask('PUT', '/v1/vaults/kept/entry?key=a', '1', Content_Type='application/json').status == 201
            for end in (own.kill, own.end):
                end()
                own.start()
                assert own.ask('GET', '/v1/vaults/kept/entry?key=a').json() == 1


def is_running(process):
    """Tell whether there is a process, and it is no zombie that nobody has waited for."""
    from .servers import processes
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return processes().get(process, ('', 0))[0] != 'Z'
