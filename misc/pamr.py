"""Moved to pgt.pamr; this name goes with the next release."""

from pgt.pamr import *  # noqa: F403
