"""Holder: who has a file open for writing, as it stands in the lock beside it. Knows neither files nor entries.

What it says is for people, who decide whether that process is gone. It holds no URL, and so no password.
"""
from __future__ import annotations

import json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Tuple

# Persisted: the members of the JSON in a lock.
MEMBERS = ('user', 'process', 'host', 'system', 'since', 'token')


class Holder:
    """Who holds a lock, and since when. Safe in any thread.

    `system`: which start of which system, and which of its processes: where the number means this one; '' if unknown.
    `token`: what tells one holding from all others.
    """

    __slots__ = MEMBERS

    def __init__(self, user: str, process: int, host: str, system: str, since: str, token: str) -> None:
        self.user, self.process, self.host, self.system = user, process, host, system
        self.since, self.token = since, token

    def __str__(self) -> str:
        return f'{self.user}, process {self.process} on {self.host}, since {self.since}'

    def where(self) -> Tuple[str, str]:
        return self.host, self.system

    def is_gone(self) -> bool:
        """Tell whether its process was one of this system and user, and has ended for sure."""
        mine = this_process()
        if not self.system or self.where() != mine.where() or self.user != mine.user:
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False


def this_process() -> Holder:
    """Return a holder that is this process, from now on."""
    import socket
    since = time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())
    return Holder(_user(), os.getpid(), socket.gethostname(), _system(), since, os.urandom(8).hex())


def _user() -> str:
    import getpass
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a number without a name, as in some containers
        return str(os.getuid()) if hasattr(os, 'getuid') else 'somebody'


def _system() -> str:
    """Return what tells processes of this system from those of others of its name; '' where nobody can tell."""
    if not sys.platform.startswith('linux'):
        return ''
    try:
        with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
            return f'{file.read().strip()} {os.readlink("/proc/self/ns/pid")}'
    except OSError:
        return ''


def packed_holder(holder: Holder) -> bytes:
    """Return what stands in the lock of a holder."""
    return json.dumps({member: getattr(holder, member) for member in MEMBERS}, indent=1).encode()


def read_holder(data: Optional[bytes]) -> Optional[Holder]:
    """Return whom a lock names; None where it names nobody, because its writer was killed in between, or is another."""
    try:
        found = json.loads(data or b'')
        values = [found[member] for member in MEMBERS]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return Holder(*values) if [*map(type, values)] == [str, int, str, str, str, str] else None
