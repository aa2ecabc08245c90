"""Errors: what can go wrong, each with its cure. This room knows of nothing else in the house.

    VaultError(Exception)
      VaultNotFoundError    (also FileNotFoundError)  no such vault, and none was to be created
      VaultExistsError      (also FileExistsError)    something is there, and is not to be replaced
      VaultBusyError        (also TimeoutError)       another writer held the vault for the whole `timeout`
      VaultClosedError      (also ValueError)         used after close()
      VaultTaskError        (also RuntimeError)       another task of this thread has a block open
      VaultUnreachableError (also ConnectionError)    no answer, or the connection was lost: nothing was done
      VaultUnsureError      (also ConnectionError)    the connection was lost in a write: it may have been done, or not
      VaultReadOnlyError    (also PermissionError)    a write with flag='r', or to a file you may not write
      VaultCorruptError                               damaged bytes were met; no wrong value was returned
      VaultFormatError                                not a vault, or one of a newer format
      VaultFullError        (also OSError)            the disk is full or failing, or a copy cannot be written there
      UntrustedPickleError                            a pickle, in a file that others may have written
      EmptyVaultError       (also KeyError)           popitem() of an empty vault
      SerializationError    (also TypeError)          a value that cannot be stored, or not be rebuilt here
      VaultValueError       (also ValueError)         an argument that is none of those that there are, or no name
      VaultTypeError        (also TypeError)          an argument of another type than is wanted

An error changes nothing: the vault is as it was before the call. A VaultUnsureError alone cannot promise it.
"""

from os.path import isdir


def shown(obj: object) -> str:
    """Return what `repr` does, or the type of what is too large for it: an int of thousands of digits, a deep tuple."""
    try:
        return repr(obj)
    except (ValueError, RecursionError):
        return f'of type {type(obj).__name__}, too large to be shown'


def plural(number: int, noun: str) -> str:
    """Return the noun as it stands behind the number: entry, entries."""
    if number == 1:
        return noun
    return f'{noun[:-1]}ies' if noun[-1] == 'y' else f'{noun}s'


def occupied(path: str) -> 'VaultError':
    """Return the error about a place that was to be written to, and is taken."""
    if isdir(path):
        return VaultError(f'there is a folder at {path} already: give the path of a new file')
    return VaultError(f'there is a file at {path} already: give another path, or remove it')


class VaultError(Exception):
    """Base of every error of this package."""

    # KeyError and OSError print their arguments in ways of their own; a VaultError prints its message.
    __str__ = Exception.__str__


class VaultNotFoundError(VaultError, FileNotFoundError):
    """There is no such vault, and it was not to be created."""


class VaultExistsError(VaultError, FileExistsError):
    """There is something already, and it was not to be replaced: at the key, or in the vault to copy into."""


class VaultBusyError(VaultError, TimeoutError):
    """Another writer held the vault for longer than `timeout` seconds."""


class VaultClosedError(VaultError, ValueError):
    """The vault was used after it was closed."""


class VaultTaskError(VaultError, RuntimeError):
    """Another task of this thread's event loop has a block of the vault open."""


class VaultUnreachableError(VaultError, ConnectionError):
    """The server did not answer, or the connection to it was lost before anything was sent: nothing was done."""


class VaultUnsureError(VaultError, ConnectionError):
    """The connection was lost while a write was being done: it may have been done. No write is repeated by itself."""


class VaultReadOnlyError(VaultError, PermissionError):
    """The vault, or its file, can only be read."""


class VaultCorruptError(VaultError):
    """Stored bytes are damaged: their checksum or their structure is wrong."""


class VaultFormatError(VaultError):
    """The file is not a vault, or it has a newer format than this version reads."""


class VaultFullError(VaultError, OSError):
    """The disk is full or failing, or a copy cannot be written where it is to be; nothing of the call was kept."""


class UntrustedPickleError(VaultError):
    """A pickle may not be read or written here, because it could run somebody else's code."""


class EmptyVaultError(VaultError, KeyError):
    """popitem() found nothing to pop."""


class SerializationError(VaultError, TypeError):
    """A value cannot be turned into bytes, or bytes not into the value they were."""


class VaultValueError(VaultError, ValueError):
    """An argument is none of those that there are, or a name is none."""


class VaultTypeError(VaultError, TypeError):
    """An argument is of another type than is wanted."""


UNWRITTEN = (  # what helps when a file cannot be written
    (PermissionError, 'see that you may write there'),
    (FileNotFoundError, 'make the folder'),
    (NotADirectoryError, 'give a path in a folder'),
    (OSError, 'make room'),
)


def about(error: VaultError, key: object, path: str) -> VaultError:
    """Return the error with the key and the vault that it is about."""
    return type(error)(f'{error} (key {shown(key)} of the vault {path})')


def unwritten(what: str, error: OSError) -> VaultFullError:
    """Return the error about a file that could not be written, and of which nothing is left."""
    cure = next(cure for kind, cure in UNWRITTEN if isinstance(error, kind))
    return VaultFullError(f'{what} failed, nothing was written: {error}; {cure}, and repeat')
