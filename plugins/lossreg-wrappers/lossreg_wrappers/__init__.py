"""Losses of other libraries for lossreg, and TorchJD's scalarizers as weightings: `torch/...`, `smp/...`, `monai/...`,
`kornia/...`, `torchvision/...`, `torchjd/...`.

Importing this package imports neither torch nor any of the libraries.
"""

__version__ = "0.1.0"
