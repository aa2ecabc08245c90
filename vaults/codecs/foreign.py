"""Foreign: what classes of packages that may not be installed have in common when they are stored by name.

frames.py and images.py have the packages. None of them is imported before an object of theirs, or a stored value of
that name, is met.
"""
from __future__ import annotations

import sys
from importlib import import_module

from .codes import PICKLE, REGISTERED
from .registry import Registered, left_to_pickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from .registry import Encoder, Pack


class Foreign(Registered):
    """A class of a package that may not be installed, with the name that it is stored under."""

    def __init__(self, name: str, extra: str, needs: List[str], dump: Callable[[Any], Any],
                 load: Callable[[Any], Any]) -> None:
        super().__init__(object, name, dump, load)
        self.extra, self.needs = extra, needs

    def encoded(self, obj: Any, inner: Pack) -> Optional[bytes]:
        payload = self.dumped(obj)
        return None if payload is None else inner([self.name, payload])

    def loaded(self, payload: Any) -> Any:
        """Return the object. Raises: ImportError, which says what to install; SerializationError."""
        try:
            self.require()
        except ImportError as error:
            raise ImportError(f'this value is a {self.name}, and {error}: '
                              f"pip install 'vaults[{self.extra}]'") from error
        return super().loaded(payload)

    def require(self) -> None:
        """Import what it takes. Raises: ImportError."""
        for module in self.needs:
            import_module(module)


def encoder_among(known: Dict[Tuple[str, str], Foreign], module: str, kind: type) -> Encoder:
    """Return the encoder of a class of `module`; pickle's for a subclass, and for any that is not known."""
    entry = known.get((module, kind.__qualname__))
    if entry is None or getattr(sys.modules.get(module), kind.__qualname__, None) is not kind:
        return PICKLE, left_to_pickle
    return REGISTERED, entry.encoded
