"""Moved to pgt.metrics.segmentation; this name goes with the next release."""

import sys

from pgt.metrics import segmentation

sys.modules[__name__] = segmentation
