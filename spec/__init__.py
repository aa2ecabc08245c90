"""The specification of vaults, a file per part of the house. tests.py gathers it: `pytest tests.py`."""
