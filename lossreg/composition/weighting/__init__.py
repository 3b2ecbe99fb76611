"""Adaptive weightings, one strategy a file."""
