"""Columns by the name that older pickles have. Their room is collections/."""
from .collections.column import Column as Column
