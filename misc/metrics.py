"""Moved to pgt.metrics.saliency; this name goes with the next release."""

from pgt.metrics.saliency import *  # noqa: F403
