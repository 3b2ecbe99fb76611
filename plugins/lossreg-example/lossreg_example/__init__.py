"""Losses for lossreg.

This module imports nothing, because lossreg imports `plugin.py` at start-up and must not wait for torch.
"""
