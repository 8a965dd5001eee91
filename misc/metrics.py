"""Moved to pgt.metrics.saliency; this name goes with the next release."""

import sys

from pgt.metrics import saliency

sys.modules[__name__] = saliency
