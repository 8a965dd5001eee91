"""Moved to pgt.superpixel; this name goes with the next release."""

import sys

from pgt import superpixel

sys.modules[__name__] = superpixel
