"""Live lists by the name that older pickles have. Their room is collections/."""
from .collections.list import List as List
