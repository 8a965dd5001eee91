"""The method: class activation maps, their refinement (PAMR, dense CRF, superpixels, random walk), losses, metrics."""

__version__ = "0.2.0"
