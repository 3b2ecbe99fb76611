"""Describe the machine and the versions of libraries."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import cpuinfo
import psutil
import torch


def machine() -> dict[str, Any]:
    """Return the facts about the machine and the libraries that affect the results."""
    names = (
        "lossreg", "torch", "numpy", "scipy", "monai", "kornia", "segmentation-models-pytorch", "scikit-image",
        "scikit-learn", "torchjd",
    )  # fmt: skip
    installed = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    cpu = cpuinfo.get_cpu_info()
    return {
        "cpu": cpu.get("brand_raw", platform.processor()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "caches": {name: cpu[f"{name}_cache_size"] for name in ("l2", "l3") if f"{name}_cache_size" in cpu},
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(psutil.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: installed[name] for name in names if name in installed},
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
