"""Moved to pgt.metrics.segmentation; this name goes with the next release."""

from pgt.metrics.segmentation import *  # noqa: F403
