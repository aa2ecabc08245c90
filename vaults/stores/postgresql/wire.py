"""A connection: statements go out, answers come in, one at a time. Knows libpq, and neither tables nor errors of ours.

psycopg's cursors take twice the time of a trip here, so libpq is used as psycopg.pq has it, with a wait of our own. It
hears Ctrl-C and lets signal handlers run, and whatever ends it before the answer is there ends the connection: nobody
may meet the answer to what somebody else has asked.

The trap: a large statement does not fit the socket, and the server may not read it before we have read its answer. So
what goes out waits for both.
"""
from __future__ import annotations

import os
import socket
import threading
from functools import partial
from itertools import count
from weakref import WeakSet

import psycopg
from psycopg import pq

from ..forks import each_in_child
from .forms import int4
from .patience import SLICE, wait, waiting_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

    from .patience import Ready

    Call = List[Any]        # answers, None behind the last
    Values = Sequence[Optional[bytes]]

SLOTS = 16              # over which the number of entries is spread, lest writers wait for one row
BINARY = 1              # of libpq's formats
SHUT_OUT = (psycopg.Error, OSError, ValueError)     # what psycopg.pq and select raise of a connection that is gone
FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE, pq.ExecStatus.PIPELINE_ABORTED)
SEVERE = (b'FATAL', b'PANIC')                       # of errors that end the connection

wires: WeakSet[Wire] = WeakSet()                    # all there are, for a forked child to let go of


class LostWire(Exception):
    """The connection is gone; what was sent may have been done."""


class Refused(Exception):
    """The server has answered with an error: its SQLSTATE and its words. Nothing of the statement was done."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(code, words)
        self.code, self.words = code, words


class Statement:
    """SQL with parameters, all of them binary. Each connection prepares it once, where it can."""

    __slots__ = ('formats', 'sql')

    def __init__(self, sql: str, parameters: int) -> None:
        self.sql = sql.encode()
        self.formats = [BINARY] * parameters


class Wire:
    """A connection to a server. To be used by one thread at a time; `cut` may be called by any."""

    def __init__(self, conn: pq.abc.PGconn, alive: Callable[[], None], patience: float) -> None:
        conn.nonblocking = 1
        self.conn, self._alive, self._patience = conn, alive, patience
        self._look()
        self.is_direct = False      # whether statements can be prepared: no pooler stands between
        self.version = ''           # what the server says it is
        self.slot = os.urandom(1)[0] % SLOTS    # of the tallies: those of many connections are spread over all
        self.slot4 = int4(self.slot)
        self.notices: List[Tuple[str, str]] = []    # codes and words of the last answer's warnings
        self._known: Dict[Statement, bytes] = {}    # and by what names the server knows them
        self._numbers = count()
        self._call: Optional[Call] = None           # what is being asked, and was answered so far
        self._is_parents = False    # in a forked child
        conn.notice_handler = partial(_note, self.notices)  # no method of this object: a circle would keep it open
        wires.add(self)

    def _look(self) -> None:
        self.readable, self._either = (waiting_for(self.conn.socket, to_write) for to_write in (False, True))

    def ask(self, statement: Statement, values: Values = ()) -> pq.abc.PGresult:
        """Return the answer to one statement. Raises: Refused, LostWire; after anything else it is closed as well."""
        try:
            if self._call is not None:
                self._finish()
            conn, formats, given = self.conn, statement.formats, [*values]  # of Python 3.8, psycopg takes lists alone
            if not self.is_direct:
                return self._answers(conn.send_query_params, statement.sql, given, None, formats, BINARY)[0]
            name = self._known.get(statement) or self._prepare(statement)
            return self._answers(conn.send_query_prepared, name, given, formats, BINARY)[0]
        except Refused:
            raise
        except BaseException as error:
            self._give_up(error)
            raise

    def run(self, sql: bytes) -> List[pq.abc.PGresult]:
        """Return the answers to statements without parameters, which go in one trip. Raises: as `ask`."""
        try:
            if self._call is not None:
                self._finish()
            return self._answers(self.conn.send_query, sql)
        except Refused:
            raise
        except BaseException as error:
            self._give_up(error)
            raise

    def _prepare(self, statement: Statement) -> bytes:
        """Have the server know the statement, and return its name there: a signal handler may do so as well."""
        name = b'vaults_%d' % next(self._numbers)
        self._answers(self.conn.send_prepare, name, statement.sql)
        self._known[statement] = name
        return name

    def _answers(self, send: Callable[..., None], *arguments: object) -> List[pq.abc.PGresult]:
        """Send, and wait for all answers, behind which None stands. Raises the first error among them.

        While it waits a signal handler may use the connection, in a block of this thread: it has the call that it has
        interrupted answered first.
        """
        around, call = self._call, []  # type: ignore[var-annotated]  # as self._call says
        self._call = call
        try:
            if self.notices:
                self.notices.clear()
            send(*arguments)
            while not call or call[-1] is not None:
                self._go_on(call)
        finally:
            self._call = around
        del call[-1]
        for answer in call:
            if answer.status in FAILED:
                raise self._failure(answer)
        return call

    def _go_on(self, call: Call) -> None:
        """Read the next answer to a call, or wait for it."""
        conn = self.conn
        if conn.flush():
            self._wait(self._either, call)
            conn.consume_input()
        elif not conn.is_busy():
            call.append(conn.get_result())
        elif self.readable(SLICE) or self._wait(self.readable, call):
            conn.consume_input()

    def _finish(self) -> None:
        """Have the call answered that a signal handler has interrupted, when it was sent already."""
        self._look()  # anew: the call may be waiting in the others
        call = self._call
        while call is not None and not _is_over(call) and self.is_active():
            self._go_on(call)

    def _wait(self, ready: Ready, call: Call) -> bool:
        """Wait, and tell whether the call still is to be answered."""
        wait(ready, self._patience, self._alive, lambda: _is_over(call))
        return not _is_over(call)

    def _failure(self, answer: pq.abc.PGresult) -> Exception:
        field = answer.error_field
        words = (field(pq.DiagnosticField.MESSAGE_PRIMARY) or answer.error_message).decode(errors='replace').strip()
        code = (field(pq.DiagnosticField.SQLSTATE) or b'').decode()
        severity = field(pq.DiagnosticField.SEVERITY_NONLOCALIZED)
        if self.conn.status == pq.ConnStatus.BAD or not code or severity in SEVERE:
            return LostWire(words)
        return Refused(code, words)

    def _give_up(self, error: BaseException) -> None:
        """Close what is in the midst of a statement. Raises: LostWire, where the error says that it is gone."""
        # Of psycopg alone: a signal handler may raise anything else, such as a TimeoutError, which is an OSError.
        if not isinstance(error, (LostWire, psycopg.Error)):
            self._cancel()
        self.close()
        if isinstance(error, psycopg.Error):
            raise LostWire(' '.join(str(error).split())) from error

    def _cancel(self) -> None:
        """Have the server end what nobody waits for any more, without waiting for it."""
        try:
            if self.is_active() and not self._is_parents:
                cancel = self.conn.get_cancel().cancel
                threading.Thread(target=_quietly, args=(cancel,), daemon=True).start()
        except (*SHUT_OUT, RuntimeError):  # the connection is gone; or the interpreter ends, and threads with it
            return

    def is_active(self) -> bool:
        """Tell whether an answer has not been read yet."""
        return self.conn.transaction_status == pq.TransactionStatus.ACTIVE

    def is_idle(self) -> bool:
        """Tell whether anybody may use it: no transaction is open, and no answer outstanding."""
        return self.conn.transaction_status == pq.TransactionStatus.IDLE

    def is_lost(self) -> bool:
        """Tell whether the server has closed it, or says what nobody has asked for."""
        return self.is_gone() or bool(self.readable(0))

    def is_gone(self) -> bool:
        """Tell whether it is known that there is no connection any more."""
        return self.conn.status != pq.ConnStatus.OK

    def close(self) -> None:
        """End the connection; what is open in it is rolled back."""
        if not self._is_parents:
            self.conn.finish()

    def cut(self) -> None:
        """Have it lost, whoever is using it: libpq may not be called by two threads, the socket may."""
        try:
            with socket.socket(fileno=os.dup(self.conn.socket)) as one:
                one.shutdown(socket.SHUT_RDWR)
        except SHUT_OUT:
            return  # it is gone already

    def forget(self) -> None:
        """Let go of it in a forked child: it is the parent's, which goes on using it, and must end when that does.

        psycopg ends no connection in another process than that which began it, so only the socket is closed.
        """
        self._is_parents = True
        wires.discard(self)     # once it is closed, the number of its socket may be another's
        try:
            os.close(self.conn.socket)
        except SHUT_OUT:
            return


def _is_over(call: Call) -> bool:
    return bool(call) and call[-1] is None


def _note(notices: List[Tuple[str, str]], notice: pq.abc.PGresult) -> None:
    code = notice.error_field(pq.DiagnosticField.SQLSTATE) or b''
    words = notice.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b''
    notices.append((code.decode(), words.decode(errors='replace')))


def _quietly(cancel: Callable[[], None]) -> None:
    try:
        cancel()
    except psycopg.Error:
        return  # the server is gone, and with it what it was to end


each_in_child(wires, lambda wire: wire.forget())
