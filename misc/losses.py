"""Moved to pgt.losses; this name goes with the next release."""

from pgt.losses import *  # noqa: F403
