"""From image-level labels to pixel-level pseudo labels: the method, which needs no other folder of this repository."""

__version__ = "0.6.0"
