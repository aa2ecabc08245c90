"""Processes: to run what may be killed, crash or hang, and to know what it had said until then.

A `Process` is forked and goes on with what this one has in memory. What must begin anew, with another environment or
another Python, is a program: `run` runs one to its end, and a function marked `@role` is one, of the trial itself.
"""
from __future__ import annotations

import contextlib
import faulthandler
import functools
import json
import os
import pathlib
import pickle
import select
import shutil
import signal
import subprocess
import sys
import traceback
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

HANGS = 60  # seconds until a process counts as hung, which shows where it hangs


# --- forked processes ---------------------------------------------------------------------------------------------

class Process:
    """A forked process that does `function(*arguments, tell)`, and what it has `said`: the bytes that it told."""

    def __init__(self, function: Callable[..., object], *arguments: Any, hangs: float = HANGS) -> None:
        self._pipe, pipe = os.pipe()
        self.said, self._hangs = b'', hangs
        self.code: Any = None  # when it has ended: 0, 1 after an exception, or the negative number of a signal
        self._pid = os.fork()
        if not self._pid:
            _be_child(hangs, function, *arguments, functools.partial(os.write, pipe))
        os.close(pipe)

    def hear(self, patience: float = 0) -> bool:
        """Hear what it says next; tell whether it was something."""
        if not select.select([self._pipe], [], [], patience)[0]:
            return False
        words = os.read(self._pipe, 1 << 16)
        self.said += words
        return bool(words)

    def wait_for(self, word: bytes, times: int = 1) -> None:
        """Wait until it has said a word so many times. Raises: AssertionError."""
        while self.said.count(word) < times:
            assert self.hear(self._hangs), f'a process failed, or hung, after {self.said[-20:]!r}'

    def signal(self, number: int) -> None:
        os.kill(self._pid, number)

    def end(self) -> int:
        """Kill it if it still is there, hear its last words, and return its code."""
        if self.code is None:
            os.kill(self._pid, signal.SIGKILL)
            self.join()
        return self.code

    def kill(self) -> None:
        """Kill it. Raises: AssertionError when it had ended by itself, or crashed."""
        assert self.end() == -signal.SIGKILL, f'a process ended by itself, with {self.code}'

    def join(self) -> int:
        """Hear it until it ends, and return its code."""
        if self.code is None:
            while self.hear(self._hangs):
                pass
            os.close(self._pipe)
            status = os.waitpid(self._pid, 0)[1]
            self.code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return self.code


def _be_child(hangs: float, function: Callable[..., object], *arguments: Any) -> None:
    code = 1
    try:
        faulthandler.register(signal.SIGALRM, chain=True)  # shows where it hangs, and ends it; not a thread, which
        signal.setitimer(signal.ITIMER_REAL, hangs)        # a child of it would wait for
        function(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


class Answer(NamedTuple):
    """How a process ended, and what its function returned, None where it did not."""

    code: int
    value: Any


def ask(function: Callable[..., object], *arguments: Any, hangs: float = HANGS) -> Answer:
    """Do `function(*arguments)` in a forked process."""
    return ask_all([(function, *arguments)], hangs=hangs)[0]


def ask_all(calls: Sequence[Sequence[Any]], watch: Callable[[], object] = lambda: None, hangs: float = HANGS) -> List[Answer]:
    """Do each (function, *arguments) in a forked process; all begin together. `watch` is called all the while."""
    gate = os.pipe()
    processes = [Process(_answer, gate, *call, hangs=hangs) for call in calls]
    for end in gate:
        os.close(end)
    for process in processes:
        while not select.select([process._pipe], [], [], 0.02)[0] or process.hear():
            watch()
        process.join()
    return [Answer(process.code, pickle.loads(process.said) if process.code == 0 else None) for process in processes]


def _answer(gate: Sequence[int], function: Callable[..., object], *rest: Any) -> None:
    *arguments, tell = rest
    os.close(gate[1])
    os.read(gate[0], 1)  # returns when all have closed the other end
    said = memoryview(pickle.dumps(function(*arguments)))
    while said:
        said = said[tell(said):]


# --- programs -----------------------------------------------------------------------------------------------------

class Ended(NamedTuple):
    """How a program ended, what it said, and what it complained of."""

    code: Any  # or 'hung'
    out: str
    complaints: str

    @property
    def lines(self) -> List[Any]:
        """What it told: a line of JSON each; a last one that was not finished is left out."""
        return [json.loads(line) for line in self.out.split('\n')[:-1]]


def run(command: Sequence[Any], hangs: float = HANGS, **options: Any) -> Ended:
    """Run a program in a session of its own: whatever it has started ends with it."""
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True, **options) as process:
        try:
            out, complaints = process.communicate(timeout=hangs)
            code: Any = process.returncode
        except subprocess.TimeoutExpired:
            code = 'hung'
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if code == 'hung':
            out, complaints = process.communicate()
    return Ended(code, out.decode(errors='replace'), complaints.decode(errors='replace')[-9000:])


ROLES: Dict[str, Callable[..., object]] = {}


def role(function: Callable[..., object]) -> Callable[..., object]:
    """Have a function be a program of its own, see `as_role`. Its arguments are text."""
    ROLES[function.__name__] = function
    return function


def as_role(function: Callable[..., object], *arguments: Any) -> List[str]:
    """Return the command that runs a function in a new Python: this very program, which plays that role."""
    return [sys.executable, '-W', 'ignore::DeprecationWarning', sys.argv[0], '--role', function.__name__, *map(str, arguments)]


def play_role() -> None:
    """Play the role in which this program was started, and end. Else do nothing."""
    if sys.argv[1:2] == ['--role']:
        ROLES[sys.argv[2]](*sys.argv[3:])
        sys.exit()


def tell(what: object) -> None:
    """Tell who started this program, at once and in one piece."""
    os.write(1, json.dumps(what).encode() + b'\n')


def compiled(source: pathlib.Path, folder: pathlib.Path) -> str:
    """Compile a library that is to be loaded before others; return its path, or '' where that cannot be done here."""
    compiler = next(filter(None, map(shutil.which, ('cc', 'gcc', 'clang'))), None)
    if compiler is None or not sys.platform.startswith('linux'):
        return ''
    library = str(folder / f'{source.stem}.so')
    failed = subprocess.call([compiler, '-shared', '-fPIC', '-O1', '-o', library, str(source), '-ldl', '-lpthread'])
    return '' if failed else library
