"""aio: vaults for the tasks of asyncio and trio. It needs neither of them: whoever runs a loop has imported it.

    AsyncVault      a Vault, every verb of which is awaited
"""
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .vault import AsyncVault

__all__ = ['AsyncVault']


def __getattr__(name: str) -> object:
    """Import AsyncVault when it is asked for: who wants threads for tasks alone does without."""
    if name != 'AsyncVault':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from .vault import AsyncVault
    globals()[name] = AsyncVault
    return AsyncVault
