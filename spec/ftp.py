"""An FTP server of its own for tests, in a process that can be killed, or kills itself in the middle of something."""
from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

USER, PASSWORD = 'ann', 'se:cret'.replace(':', '')

# `when` is what it is to be killed at: so many bytes of uploads, or a renaming that it has not, or has, done; or what it refuses.
SERVER = '''
import os, signal, sys, warnings
warnings.simplefilter('ignore')
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import DTPHandler, FTPHandler
from pyftpdlib.servers import FTPServer
folder, port, user, password, when = sys.argv[1:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Files(AbstractedFS):
    def rename(self, source, target):
        if when == 'no replacing' and os.path.exists(target):
            raise FileExistsError(17, 'there is a file of that name')
        if when == 'before renaming':
            die()
        super().rename(source, target)
        if when == 'after renaming':
            die()

class Data(DTPHandler):
    def recv(self, size):
        data = super().recv(size)
        if when.isdigit() and self.receive and self.get_transmitted_bytes() + len(data) > int(when):
            die()
        return data

class Handler(FTPHandler):
    authorizer, abstracted_fs, dtp_handler = DummyAuthorizer(), Files, Data
    auth_failed_timeout = 0  # three seconds, else, before it says that a password is wrong

    def ftp_RETR(self, file):
        if when == 'busy':
            return self.respond('450 Try again later.')
        return super().ftp_RETR(file)

Handler.authorizer.add_user(user, password, folder, perm='elradfmwMT')
server = FTPServer(('127.0.0.1', int(port)), Handler)
print(server.address[1], flush=True)
server.serve_forever()
'''


class FtpServer:
    """A server with one folder. Its port stays when it is started again."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.port, self.process = folder, 0, None
        self.start()

    def start(self, when: str = '') -> None:
        """Start it, to be killed when said; what ran before is ended."""
        self.stop()
        self.process = subprocess.Popen([sys.executable, '-c', SERVER, str(self.folder), str(self.port), USER, PASSWORD, when],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def url(self, path: str, user: str = f'{USER}:{PASSWORD}') -> str:
        return f'ftp://{user}@127.0.0.1:{self.port}/{path}'


def require_ftp():
    """Skip, and say why, where there is no server of FTP, or none is wanted."""
    if os.environ.get('VAULTS_WITHOUT_SERVERS'):
        pytest.skip('VAULTS_WITHOUT_SERVERS is set')
    pytest.importorskip('pyftpdlib')
    pytest.importorskip('fsspec')


@pytest.fixture(scope='session')
def ftp():
    """An FTP server that all tests use which do not end it."""
    require_ftp()
    with tempfile.TemporaryDirectory() as folder:
        server = FtpServer(pathlib.Path(folder))
        yield server
        server.stop()


@pytest.fixture
def own_ftp(tmp_path):
    """One that a test may end."""
    require_ftp()
    (tmp_path / 'ftp').mkdir()
    server = FtpServer(tmp_path / 'ftp')
    yield server
    server.stop()
