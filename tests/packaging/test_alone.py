"""What is built from the tree works without the tree."""

from __future__ import annotations

import tarfile
import zipfile

import pytest

pytestmark = pytest.mark.needs_plugins

NAMES = {
    "seg": ["seg/SegLoss"],
    "crossfield": [
        "crossfield/CrossfieldAlign90Loss",
        "crossfield/CrossfieldAlignLoss",
        "crossfield/CrossfieldSmoothLoss",
        "crossfield/SegCrossfieldLoss",
        "crossfield/SegEdgeInteriorLoss",
    ],
    "wrappers": ["torch/CrossEntropyLoss", "torch/MSELoss"],
    "example": ["example-more/SurfaceLoss", "example/MaskedL1Loss", "lossreg-example/LogCoshLoss"],
}


def test_the_cores_wheel_has_its_data(wheels):
    names = zipfile.ZipFile(wheels["core"]).namelist()
    assert {"lossreg/py.typed", "lossreg/demo/demo.yaml"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "docs/", "plugins/"))]


def test_the_cores_sdist_has_its_data(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"lossreg/py.typed", "lossreg/demo/demo.yaml", "README.md", "LICENSE", "pyproject.toml"} <= names


@pytest.mark.parametrize("plugin", NAMES)
def test_a_plugin_works_alone_from_its_wheel(wheels, plugin, new_environment):
    environment = new_environment(wheels["core"], wheels[plugin])
    done = environment.run(
        f"""
        import sys, warnings
        warnings.simplefilter("error")
        import lossreg
        from lossreg.registry import catalog
        found = lossreg.list_losses()
        assert set({NAMES[plugin]}) <= set(found), found
        for section in catalog().sections:
            for entry in section:
                module = entry.load().__module__
                here = sys.modules[module].__file__.startswith("{environment.folder}")
                assert here or module.startswith("torch."), module
        """
    )
    assert done.returncode == 0, done.stderr


def test_the_core_works_alone_from_its_wheel(wheels, new_environment):
    done = new_environment(wheels["core"]).run(
        """
        import sys, warnings
        warnings.simplefilter("error")
        import lossreg
        assert lossreg.list_losses() == []
        assert "torch" not in sys.modules
        import torch
        criterion = lossreg.MultiLoss([lossreg.LossWrapper(torch.nn.MSELoss())], [2.0])
        assert float(criterion(torch.ones(1), torch.zeros(1))[0]) == 2.0
        """
    )
    assert done.returncode == 0, done.stderr
