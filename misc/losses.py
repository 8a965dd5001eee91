"""Moved to pgt.losses; this name goes with the next release."""

import sys

from pgt import losses

sys.modules[__name__] = losses
