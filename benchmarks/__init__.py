"""Measurements beside the plain way: python -m benchmarks.NAME, from the root of the repository."""
