"""What the trials share. No trial itself: those are the programs beside this folder."""
from __future__ import annotations

import pathlib

TRIALS = pathlib.Path(__file__).resolve().parent.parent
ROOT = TRIALS.parent
