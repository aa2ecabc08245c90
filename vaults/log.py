"""The log: warnings that need no answer. It never sees a value."""
from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging

_chosen: logging.Logger | None = None


def set_logger(logger: logging.Logger | None) -> None:
    """Send the package's log records to `logger`; None sends them to `logging.getLogger('vaults')` again."""
    global _chosen
    _chosen = logger


def get_logger() -> logging.Logger:
    """Return the logger in use. `logging` is imported here because it doubles the time of `import vaults`."""
    import logging
    if _chosen is not None:
        return _chosen
    logger = logging.getLogger('vaults')
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())
    return logger


if 'logging' in sys.modules:
    get_logger()
