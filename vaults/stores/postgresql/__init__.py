"""PostgreSQL: vaults in a database of a server, through psycopg. This room only leads to the others.

Nothing of psycopg is imported before a vault there is opened.
"""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ENTRANCE = {'open_store': 'open_vault', 'named': 'url_of', 'names': 'listed_vaults'}


def __getattr__(name: str) -> Any:
    if name not in ENTRANCE:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        import psycopg  # noqa: F401  # to say what is missing, before a room of ours needs it
    except ImportError as error:
        raise ImportError(f"{error}: vaults on PostgreSQL need it, pip install 'vaults[postgres]'") from error
    from . import opening
    return getattr(opening, ENTRANCE[name])
