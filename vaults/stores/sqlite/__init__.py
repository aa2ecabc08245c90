"""SQLite: the engine of a vault in a file. docs/format.md describes the file."""
