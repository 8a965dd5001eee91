"""Moved to pgt.crf; this name goes with the next release."""

from pgt.crf import *  # noqa: F403
