"""Losses for lossreg.

Nothing is imported here: lossreg reads `plugin.py` at start-up, and listing losses must not wait for torch.
"""
