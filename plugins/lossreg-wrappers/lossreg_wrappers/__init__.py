"""Losses of other libraries for lossreg, as `torch/...`, `monai/...` or `piq/...`, and TorchJD's weightings.

Importing this package imports neither torch nor any of the libraries.
"""
