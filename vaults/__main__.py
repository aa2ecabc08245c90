"""The command, as `python -m vaults`."""
from .cli import main

raise SystemExit(main())
