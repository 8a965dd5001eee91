"""Moved to pgt.affinity; this name goes with the next release."""

from pgt.affinity import *  # noqa: F403
