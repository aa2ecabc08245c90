"""Layouts: a whole vault as the bytes of one file, and back, exactly. Knows neither where the file is nor who writes.

In JSON it is one object with an entry in each line, which people read and edit; in msgpack a checksum and the entries.
docs/files.md has every byte. What is loaded is what was stored, byte for byte: of each value that is written in a form
of JSON it is tried whether the form leads back, and what has none that does is written as its bytes.
"""
from __future__ import annotations

import json
import re
from zlib import crc32

from msgpack import Packer, Unpacker, unpackb

from ... import keys
from ...codecs import forms
from ...codecs.codes import MALFORMED
from ...errors import SerializationError, VaultCorruptError, VaultError, VaultFormatError, shown
from ..base import SETTINGS_OWNER, chunk_key, is_of_chunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, Optional, Sequence

    from ...keys import Stored
    from ..base import Entry

# Persisted, as all that docs/files.md has.
LAYOUT_VERSION = 1
STORED = '!stored'          # the form of a value that has no other: its bytes in base64
STORED_KEY = '!key'         # likewise of a key
NO_KEY = '!'                  # what a name begins with that is not the key itself

SETTINGS = chunk_key(SETTINGS_OWNER, 0)
STORED_TYPES = {bool, int, float, str, bytes}
BLANKS = re.compile(r'[ \t\r\n]*')
WHOLE_VAULT = 'put a copy of it back, or mend it by hand: it stays as it is'
TAGGED = '"!'               # without it there is no form in a text but those of JSON's own values


class JsonLayout:
    """One JSON object: the keys are its names, in the order of insertion. Safe in any thread."""

    name = ending = 'json'

    def dumped(self, entries: Sequence[Entry]) -> bytes:
        """Return the file of these entries."""
        serializer = _serializer_in(entries)
        shown_first = sorted(entries, key=lambda entry: is_of_chunks(entry[0]))  # stable: people look at the others
        lines = [f'  {_name_of(key)}: {_value_text(data, serializer)}' for key, data in shown_first]
        if any(TAGGED in line for line in lines):
            lines.insert(0, f'  "{forms.VAULT_TAG}": {LAYOUT_VERSION}')
        return ('{\n' + ',\n'.join(lines) + '\n}\n').encode() if lines else b'{}\n'

    def loaded(self, data: bytes, name: str) -> Iterator[Entry]:
        """Yield the entries of a file. Raises: VaultCorruptError, VaultFormatError."""
        try:
            text = data.decode('utf-8-sig')
        except UnicodeDecodeError as error:
            line = data.count(b'\n', 0, error.start) + 1
            raise VaultCorruptError(f'the file of the vault is no UTF-8 ({error.reason}): line {line} of {name}; '
                                    f'{WHOLE_VAULT}') from error
        return _Reading(text, name).entries()


class MsgpackLayout:
    """Two objects of msgpack: what it is, with a checksum, and the entries. Safe in any thread."""

    name = ending = 'msgpack'

    def dumped(self, entries: Sequence[Entry]) -> bytes:
        """Return the file of these entries."""
        body: bytes = Packer().pack([part for entry in entries for part in entry])
        head: bytes = Packer().pack(['vaults', LAYOUT_VERSION, crc32(body)])
        return head + body

    def loaded(self, data: bytes, name: str) -> Iterator[Entry]:
        """Yield the entries of a file. Raises: VaultCorruptError, VaultFormatError."""
        try:
            unpacker = Unpacker(max_buffer_size=len(data) or 1)
            unpacker.feed(data)
            mark, version, checksum = unpacker.unpack()
        except MALFORMED as error:
            raise self._broken(name, not data, 'its beginning is none of a vault') from error
        if mark != 'vaults':
            raise VaultFormatError(f'this is a file of msgpack, but no vault: {name}; give the path of another one')
        _require_version(version, name)
        body = memoryview(data)[unpacker.tell():]
        if crc32(body) != checksum:
            raise self._broken(name, False, 'its checksum is wrong')
        parts = unpackb(body)
        if {*map(type, parts[1::2])} - {bytes} or {*map(type, parts[::2])} - STORED_TYPES or len(parts) % 2:
            raise VaultFormatError(f'the entries are no keys and bytes: {name}; {WHOLE_VAULT}')
        return zip(parts[::2], parts[1::2])

    def _broken(self, name: str, is_empty: bool, what: str) -> VaultCorruptError:
        return VaultCorruptError(f'the file of the vault is damaged or cut off, {"it is empty" if is_empty else what}: '
                                 f'{name}; put a copy of it back: it stays as it is')


LAYOUTS = {layout.name: layout for layout in (JsonLayout(), MsgpackLayout())}


def _require_version(version: object, name: str) -> None:
    if type(version) is not int or version < 1:
        raise VaultFormatError(f'{shown(version)} is no version of a file of a vault: {name}; {WHOLE_VAULT}')
    if version > LAYOUT_VERSION:
        raise VaultFormatError(f'the file has version {version} and this program reads up to {LAYOUT_VERSION}: {name}; '
                               'install a newer vaults')


# --- to JSON --------------------------------------------------------------------------------------------------------

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _name_of(stored: Stored) -> str:
    """Return the name, in quotes, under which a key stands: itself, or a '!' and its form."""
    if isinstance(stored, str) and stored[:1] != NO_KEY:
        return _encode(stored)
    return _encode(NO_KEY + _encode(_key_form(stored)))


def _key_form(stored: Stored) -> Any:
    """Return the form of a key that leads back to it."""
    try:
        form = forms.from_key(keys.decode(stored))
        if _is_same_key(_key_of(form), stored):
            return form
    except (VaultError, TypeError, ValueError):
        pass  # no key of a vault, but of chunks
    return {STORED_KEY: forms.as_base64(stored)}  # type: ignore[arg-type]  # all others have a form


def _is_same_key(one: Stored, other: Stored) -> bool:
    return type(one) is type(other) and one == other


def _key_of(form: Any) -> Stored:
    """Return the stored key of a form. Raises: what MALFORMED has."""
    if isinstance(form, dict) and list(form) == [STORED_KEY]:
        return forms.from_base64(form[STORED_KEY])
    stored: Stored = keys.encode(forms.to_key(form))
    return stored


def _value_text(data: bytes, serializer: str) -> str:
    """Return the JSON text of a value. That of JSON's own, which most are, is made in C."""
    if b'!' not in data:
        try:
            obj = unpackb(data)  # of what JSON has not, `_encode` refuses what this gives; keys are text alone
            text = _encode(obj)
            if text.count('[') + text.count('{') < forms.MAX_DEPTH and Packer().pack(obj) == data:
                return text
        except MALFORMED:
            pass  # it is another one
    return _encode(_value_form(data, serializer))


def _serializer_in(entries: Sequence[Entry]) -> str:
    """Return the name of the serializer that has made the values, which stands with each of them; '' without one."""
    for key, data in entries:
        if key == SETTINGS:
            try:
                return f'{unpackb(data).get("serializer", "")}'
            except MALFORMED:
                return ''  # opening the vault says what is wrong
    return ''


def _value_form(data: bytes, serializer: str) -> Any:
    """Return the form of a value that leads back to its bytes."""
    try:
        form = forms.from_packed(data, serializer)
        if _data_of(form) == data:
            return form
    except (VaultCorruptError, SerializationError):
        pass  # the header of a value in chunks, a chunk, or what is damaged
    return {STORED: forms.as_base64(data)}


def _data_of(form: Any) -> bytes:
    """Return the value of a form. Raises: SerializationError, and ValueError for what is no base64."""
    if isinstance(form, dict) and list(form) == [STORED]:
        return forms.from_base64(form[STORED])
    return forms.to_value(form, met_serializer=lambda name: None)


# --- from JSON ------------------------------------------------------------------------------------------------------

class _Reading:
    """A pass over the text of a file, member by member, so that what is wrong has its line. For one thread."""

    def __init__(self, text: str, name: str) -> None:
        self._text, self._name, self._at = text, name, 0
        self._decode = json.JSONDecoder().raw_decode
        self._pack = Packer().pack

    def entries(self) -> Iterator[Entry]:
        found: Dict[Stored, int] = {}
        if self._next() == '[':
            raise self._wrong('the file of a vault is a JSON object, and this is an array')
        self._take('{')
        more = self._next() != '}'
        while more:
            start = self._at
            entry = self._member()
            if entry is not None:
                if entry[0] in found:
                    raise self._wrong(f'the key {keys.named(entry[0])} is there twice, in line '
                                      f'{self._line(found[entry[0]])} as well', start)
                found[entry[0]] = start
                yield entry
            more = self._next() == ','
            if more:
                self._take(',')
        self._take('}')
        if self._next():
            raise self._broken('there is more behind the end of the object', self._at)

    def _member(self) -> Optional[Entry]:
        """Return the entry that begins here; None of the member that has the version."""
        start = self._at
        if self._next() != '"':
            raise self._broken('a name in quotes is expected', self._at)
        name = self._value()
        self._take(':')
        self._next()
        at = self._at
        form = self._value()
        if name == forms.VAULT_TAG:
            _require_version(form, self._name)
            return None
        return self._key(name, start), self._data(form, at)

    def _key(self, name: str, start: int) -> Stored:
        if name[:1] != NO_KEY:
            stored: Stored = keys.encode(name)
            return stored
        try:
            return _key_of(json.loads(name[1:]))
        except MALFORMED as error:
            raise self._wrong(f'the name {name!r:.80} is no key: the key that it seems to be is written as '
                              f'{_encode(NO_KEY + _encode(name)):.80}', start) from error

    def _data(self, form: Any, start: int) -> bytes:
        try:
            if self._text.find(TAGGED, start, self._at) < 0:
                data: bytes = self._pack(form)
                return data
        except (ValueError, OverflowError):
            self._pack = Packer().pack  # its buffer is half full; the form is of a large number, or deep
        try:
            return _data_of(form)
        except MALFORMED as error:
            raise self._wrong(f'{error}', start) from error

    def _next(self) -> str:
        """Return the next character that is not blank, without taking it; '' at the end."""
        self._at = BLANKS.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches anything
        return self._text[self._at:self._at + 1]

    def _take(self, mark: str) -> None:
        found = self._next()
        if found != mark:
            raise self._broken(f'"{mark}" is expected' + ('' if found else ', and the file ends'), self._at)
        self._at += 1
        self._next()

    def _value(self) -> Any:
        try:
            value, self._at = self._decode(self._text, self._at)
        except ValueError as error:
            raise self._broken(getattr(error, 'msg', f'{error}'), getattr(error, 'pos', self._at)) from error
        except RecursionError as error:
            raise self._wrong('it is nested too deep to be read') from error
        return value

    def _line(self, at: int) -> int:
        return self._text.count('\n', 0, BLANKS.match(self._text, at).end()) + 1  # type: ignore[union-attr]  # as above

    def _where(self, at: int) -> str:
        return f'line {self._line(at)}, column {at - self._text.rfind(chr(10), 0, at)} of {self._name}'

    def _broken(self, what: str, at: int) -> VaultCorruptError:
        """Return the error about a text that is no JSON."""
        if not self._text.strip():
            return VaultCorruptError(f'the file of the vault is empty: {self._name}; put a copy of it back, or remove '
                                     'it, to begin a new one')
        end = min(at, len(self._text))
        return VaultCorruptError(f'the file of the vault is no JSON, {what[:1].lower()}{what[1:]}: {self._where(end)}; '
                                 f'{WHOLE_VAULT}')

    def _wrong(self, what: str, at: int = -1) -> VaultFormatError:
        """Return the error about JSON that is no vault."""
        at = self._at if at < 0 else at
        return VaultFormatError(f'{what}: {self._where(BLANKS.match(self._text, at).end())}; '  # type: ignore[union-attr]
                                f'{WHOLE_VAULT}')
