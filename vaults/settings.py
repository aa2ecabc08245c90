"""Settings: what is kept of a vault itself, in chunks that belong to no entry. Knows the store, not what a user sees.

There is one setting, the name of the serializer that the vault was made with. It is in the file, so that opening the
vault with another one is an error, not a surprise.
"""
from __future__ import annotations

from msgpack import Packer, unpackb

from .codecs.codes import MALFORMED
from .codecs.packing import undecodable
from .codecs.serializers import AS_STORED, AsStored, SerializerCodec
from .errors import VaultCorruptError, VaultFormatError
from .stores.base import SETTINGS_OWNER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from .codecs.packing import Codec
    from .codecs.serializers import Serializer
    from .stores.base import Store


def codec_for(store: Store, codec: Codec, wanted: Optional[Serializer], flag: str, path: str) -> Codec:
    """Return the codec of a vault that has just been opened; write the serializer of a new one down.

    Raises: VaultFormatError when the vault was made with another one, or with none.
    """
    if wanted is AS_STORED:
        return _codec_for_tools(store, codec)
    if flag == 'n' or (flag != 'r' and wanted and recorded(store) is None):
        store.transact(lambda: _write_down(store, wanted, flag))
    name, given = recorded(store), wanted.name if wanted else None
    if name != given:
        raise VaultFormatError(_mismatch(name, given, path))
    return SerializerCodec(codec.pickles, wanted) if wanted else codec


def _codec_for_tools(store: Store, codec: Codec) -> Codec:
    try:
        name = recorded(store)
    except VaultCorruptError:
        name = 'a damaged name'
    return codec if name is None else SerializerCodec(codec.pickles, AsStored(name))


def _write_down(store: Store, wanted: Optional[Serializer], flag: str) -> None:
    """Write down the serializer of a vault without entries; a vault begun anew forgets the one it had."""
    name = recorded(store)
    if flag == 'n' and name is not None:
        store.delete_chunks(SETTINGS_OWNER)
        name = None
    if wanted and name is None and not store.count():
        store.put_chunks(SETTINGS_OWNER, [(0, Packer().pack({'serializer': wanted.name}))])


def recorded(store: Store) -> Optional[str]:
    """Return the name of the serializer that the vault was made with, or None. Raises: VaultCorruptError."""
    data = store.get_chunk(SETTINGS_OWNER, 0)
    if data is None:
        return None
    try:
        name: Optional[str] = unpackb(data).get('serializer')
    except MALFORMED as error:
        undecodable(error)
    return name


def _mismatch(name: Optional[str], wanted: Optional[str], path: str) -> str:
    """Say which serializer the vault was made with, which one it was opened with, and what to pass."""
    if name is None:
        return (f'the vault at {path} was made without a serializer and is opened with {wanted!r}: leave serializer '
                'out, or begin a new vault with it')
    other = f'opened with {wanted!r}' if wanted else 'opened without one'
    return (f'the vault at {path} was made with the serializer {name!r} and is {other}: pass serializer=..., the '
            f'module or object of that name, or the tuple ({name!r}, dumps, loads)')
