"""Sphinx configuration: `sphinx-build -W docs OUT`, or `tox run -e docs`."""

import html
import subprocess
import sys
from importlib.metadata import metadata
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

project = "lossreg"
author = "The lossreg developers"
version = release = installed_version("lossreg")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "generated"]
html_theme = "furo"
html_title = f"lossreg {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_js_files = ["losses.js", "formulas.js"]
html_search_scorer = str(Path(__file__).parent / "_static" / "scorer.js")
html_favicon = "_static/favicon.svg"
repository = dict(line.split(", ", 1) for line in metadata("lossreg").get_all("Project-URL") or ())["Repository"]
if "/OWNER/" not in repository:  # it has no address yet
    html_theme_options = {"source_repository": repository, "source_branch": "main", "source_directory": "docs/"}
html_show_copyright = False  # it is in the license file
html_math_renderer = "mathml"  # rendered by the browser, without loading anything

default_role = "literal"  # docstrings mark code with single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["transformers"]  # large, and in no environment that builds the pages
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_line_continuation_character = "\\"

RUN = """
import runpy, sys
scripts, sys.argv = sys.argv[1:], sys.argv[:1]
for script in scripts:
    runpy.run_path(script, run_name="__main__")
"""


def generate(_: Sphinx) -> None:
    """Generate the plots and tables of the pages in `generated/`, in one process, since most scripts import torch."""
    scripts = sorted(map(str, Path(__file__).parent.glob("generate/*.py")))
    subprocess.run([sys.executable, "-c", RUN, *scripts], check=True)


def write_math(translator: HTML5Translator, node: nodes.math) -> None:
    """Write an inline formula."""
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def write_displayed_math(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a displayed formula."""
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def keep_columns(_: Sphinx, page: nodes.document) -> None:
    """Mark the output of commands that has columns; on a phone only this is not wrapped."""
    for block in page.findall(nodes.literal_block):
        if any(mark in block.astext() for mark in ("───", "███", "^^^")):
            block["classes"].append("columns")


def first_paragraph(app: Sphinx, page: str) -> str:
    """Return the first paragraph of a page as one line."""
    paragraph = app.env.get_doctree(page).next_node(nodes.paragraph)
    return " ".join(paragraph.astext().split()) if paragraph else ""


def describe(app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Describe each page to search engines by its first paragraph."""
    if page in app.env.found_docs:
        text = html.escape(first_paragraph(app, page)[:300])
        context["metatags"] = f'{context.get("metatags", "")}<meta name="description" content="{text}">\n'


def list_for_language_models(app: Sphinx, error: Exception | None) -> None:
    """Write llms.txt: each page with its address and its first paragraph."""
    if error or app.builder.format != "html":
        return
    pages = [page for page in app.env.toctree_includes["index"] if page in app.env.titles]
    lines = [f"# {project}", "", f"> {first_paragraph(app, 'index')}", ""]
    lines += [f"- [{app.env.titles[page].astext()}]({page}.html): {first_paragraph(app, page)}" for page in pages]
    Path(app.outdir, "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect the generator, the math renderer and what is written beside the pages."""
    app.connect("builder-inited", generate)
    app.connect("doctree-read", keep_columns)
    app.connect("html-page-context", describe)
    app.connect("build-finished", list_for_language_models)
    app.add_html_math_renderer("mathml", (write_math, None), (write_displayed_math, None))
