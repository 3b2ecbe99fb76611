"""Losses of other libraries for lossreg, `torch/...`, `monai/...` and more, and TorchJD's scalarizers as weightings.

Importing this package imports neither torch nor any of the libraries.
"""

__version__ = "0.1.0"
