"""Sphinx configuration: `sphinx-build -W docs OUT`, or `tox run -e docs`."""

import subprocess
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.application import Sphinx

project = "lossreg"
author = "The lossreg developers"
version = release = installed_version("lossreg")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "generated"]
html_theme = "furo"
html_title = f"lossreg {release}"

default_role = "literal"  # docstrings write code in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True


def draw_plots(_: Sphinx) -> None:
    """Write the pictures of the pages into `generated/`."""
    for script in sorted(Path(__file__).parent.glob("generate/*.py")):
        subprocess.run([sys.executable, str(script)], check=True)


def setup(app: Sphinx) -> None:
    """Draw before pages are read."""
    app.connect("builder-inited", draw_plots)
