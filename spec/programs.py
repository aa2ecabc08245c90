"""The command as a program, run in a process of its own or at a terminal."""
from __future__ import annotations

import contextlib
import io
import os
import pathlib
import select
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

import vaults
from vaults import Vault, cli

from .helpers import HERE


class Planted:
    """Whose pickle makes a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def command(root, capsys, monkeypatch):
    """The command, run in this process: a function that returns its exit status, output and errors."""
    monkeypatch.setenv('VAULTS_ROOT', str(root))
    vaults.set_root_path(None)

    def run_command(*arguments, stdin=b''):
        monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(stdin)))
        before = signal.getsignal(signal.SIGINT)
        environ = dict(os.environ)
        status = cli.main(list(map(str, arguments)))
        assert dict(os.environ) == environ
        assert signal.getsignal(signal.SIGINT) is before
        return SimpleNamespace(status=status, **dict(zip(('out', 'err'), capsys.readouterr())))
    return run_command


@pytest.fixture
def books(root):
    """A vault with an entry of most kinds."""
    with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 'books.db'))) as v:
        v.update({'dune': 'Frank Herbert', 'emma': 'Jane Austen', 7: [1, 2], ('log', 2026): (1, 2), b'\0': {'a': b'1'}})
    return v


def spawn(*arguments, **options):
    """Start the real command, as a process of its own, with warnings as errors."""
    env = {**os.environ, 'PYTHONPATH': str(HERE), 'PYTHONUNBUFFERED': '', **options.pop('env', {})}
    options = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, '-W', 'error', '-m', 'vaults', *arguments], env=env, **options)


def finished(process, data=None):
    out, err = process.communicate(data, timeout=60)
    return SimpleNamespace(status=process.returncode, out=(out or b'').decode(), err=(err or b'').decode())


def at_terminal(root, *arguments, streams=('stdin', 'stdout', 'stderr'), typed=b'', **env):
    """Run the command with streams that are a terminal; return its status and what is seen, other streams discarded."""
    terminal, inside = os.openpty()
    others = dict.fromkeys(('stdin', 'stdout', 'stderr'), subprocess.DEVNULL)
    env = {'VAULTS_ROOT': str(root), 'TERM': 'xterm', 'NO_COLOR': '', 'COLUMNS': '80', **env}
    process = spawn(*arguments, env=env, **{**others, **dict.fromkeys(streams, inside)})
    os.close(inside)
    os.write(terminal, typed)
    seen = b''
    with contextlib.suppress(OSError):  # Linux ends a terminal with an error
        while not seen or select.select([terminal], [], [], 60)[0]:
            part = os.read(terminal, 65536)
            if not part:
                break
            seen += part
    status = process.wait(60)
    os.close(terminal)
    return SimpleNamespace(status=status, seen=seen.decode())
