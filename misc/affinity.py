"""Moved to pgt.affinity; this name goes with the next release."""

import sys

from pgt import affinity

sys.modules[__name__] = affinity
