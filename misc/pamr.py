"""Moved to pgt.pamr; this name goes with the next release."""

import sys

from pgt import pamr

sys.modules[__name__] = pamr
