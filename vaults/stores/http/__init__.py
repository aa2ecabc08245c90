"""HTTP: a vault on another machine, which `vaults serve` has there. This room only leads to the others.

Nothing of http.client is imported before a vault there is opened.
"""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LEADS_TO = {'open_store': 'open_served', 'named': 'url_under', 'names': 'names_served'}


def __getattr__(name: str) -> Any:
    if name not in LEADS_TO:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from . import opening
    return getattr(opening, LEADS_TO[name])
