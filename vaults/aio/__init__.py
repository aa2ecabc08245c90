"""aio: vaults for tasks of asyncio and trio. It needs neither of them: whoever runs a loop has imported it."""
