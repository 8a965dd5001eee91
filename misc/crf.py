"""Moved to pgt.crf; this name goes with the next release."""

import sys

from pgt import crf

sys.modules[__name__] = crf
