"""What the trials share. No trial itself: those are the programs beside this folder."""
from __future__ import annotations

import os
import pathlib

TRIALS = pathlib.Path(__file__).resolve().parent.parent
ROOT = TRIALS.parent
IN_MEMORY = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None  # a folder for files that need no disk
