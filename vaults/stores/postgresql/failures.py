"""What PostgreSQL's errors mean, by their codes, never by their words; and what is said when a connection is lost.

https://www.postgresql.org/docs/current/errcodes-appendix.html has the codes.
"""
from __future__ import annotations

from ...errors import (
    SerializationError,
    VaultBusyError,
    VaultCorruptError,
    VaultError,
    VaultFullError,
    VaultNotFoundError,
    VaultReadOnlyError,
    VaultUnreachableError,
    VaultUnsureError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Tuple, Type

    from .wire import LostWire, Refused



class OutOfLineError(VaultBusyError):
    """A transaction could not be put in line with others, and was undone: it may be run again, if it may be at all."""


WARNING = '01000'       # also of a commit that is no longer waited for on a standby
NO_STATEMENT = '26000'  # what was prepared is not known to whoever answers: somebody has discarded it
WAITED_OUT = '55P03'        # somebody else had the lock for the whole of lock_timeout
CURES: Dict[str, Tuple[Type[VaultError], str]] = {
    WAITED_OUT: (VaultBusyError, 'another writer held the vault for the whole timeout; wait, or make blocks shorter'),
    '57014': (VaultBusyError, 'the server ended the call, as somebody has asked it to, or its statement_timeout did; '
                              'nothing of it was done'),
    '40001': (OutOfLineError, 'it could not be put in line with what others wrote, and was undone; repeat it'),
    '40P01': (OutOfLineError, 'two writers waited for each other, and this one was undone; repeat it'),
    '25P02': (VaultError, 'an error in this block has undone it; leave the block, and repeat it'),
    '25006': (VaultReadOnlyError, 'the server is a standby, or the database can only be read; connect to one that can '
                                  "be written, or open it with flag='r'"),
    '42501': (VaultReadOnlyError, 'the user of the URL has not the rights for it; have the owner of the schema vaults '
                                  'grant them'),
    '53100': (VaultFullError, 'the disk of the server is full; make room there, and repeat'),
    '54000': (SerializationError, 'it is larger than the server can keep; store less in one value'),
    '42P01': (VaultNotFoundError, 'the tables of the vault are gone; open it again'),
    '3F000': (VaultNotFoundError, 'the schema of the vault is gone; open it again'),
    'XX001': (VaultCorruptError, 'the server found damaged data; restore it from a backup'),
    'XX002': (VaultCorruptError, 'the server found a damaged index; have it made anew, with REINDEX'),
}
CONNECT = ('see that the server runs and can be reached, and that libpq finds the password, in ~/.pgpass, PGPASSWORD '
           'or PGSERVICE: a URL is remembered without its password')


def refusal(error: Refused, name: str) -> VaultError:
    """Return our error for one that the server has answered with: nothing of the call was done."""
    kind, cure = CURES.get(error.code, (VaultError, 'nothing of the call was done'))
    return kind(f'{error.words} (SQLSTATE {error.code}): vault {name}; {cure}')


def unsure(error: LostWire, name: str) -> VaultUnsureError:
    return VaultUnsureError(f'the connection was lost in a write, which may have been done or not: {error}: vault '
                            f'{name}; read what it was to change before it is repeated')


def lost_reading(error: LostWire, name: str) -> VaultUnreachableError:
    return VaultUnreachableError(f'the connection was lost, and lost again, while reading: {error}: vault {name}; '
                                 f'{CONNECT}')


def lost_in_block(words: str, name: str) -> VaultUnreachableError:
    return VaultUnreachableError(f'the connection was lost inside a block, of which nothing was kept: {words}: vault '
                                 f'{name}; leave the block, and repeat it')


def not_connected(words: str, name: str) -> VaultUnreachableError:
    return VaultUnreachableError(f'there is no connection to {name}: {" ".join(words.split())}; {CONNECT}')


def not_waited_for(words: str, name: str) -> VaultUnsureError:
    """Return the error of a commit that is done on this server, and perhaps on no standby."""
    return VaultUnsureError(f'it was done on the server, but not surely on its standby: {words}: vault {name}; if the '
                            'server is lost now, it may be too')
