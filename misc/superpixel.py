"""Moved to pgt.superpixel; this name goes with the next release."""

from pgt.superpixel import *  # noqa: F403
