"""Losses of other libraries for lossreg: `torch/...`, `smp/...`, `monai/...`, `kornia/...`, `torchvision/...` and more.

Importing this package imports neither torch nor any of the libraries.
"""

__version__ = "0.1.0"
