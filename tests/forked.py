"""What processes of tests are forked with: the configuration of small runs, which takes half a second to compose."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the process that they are forked from has the project's only

from composing import composed
from kills import SMALL

composed(*SMALL)
