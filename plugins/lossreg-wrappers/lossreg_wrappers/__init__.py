"""The losses of other libraries by name, for lossreg: `torch/...`, `smp/...`, `monai/...`, `kornia/...`.

Importing this package imports neither torch nor any of the libraries.
"""

__version__ = "0.1.0"
