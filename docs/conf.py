"""The manual as a site. The source folder is the repository, so that links between pages are those of the files.

``make docs`` builds it; by hand::

    sphinx-build -W --keep-going -c docs . docs/_build
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from filled_in import fill_in  # noqa: E402

project = "qgen"
author = "The qgen developers"
copyright = author
root_doc = "docs/index"

include_patterns = [
    "docs/**",
    "tutorials/*.ipynb",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/RESULTS.md",
]
# folders without a page are not walked through
exclude_patterns = [".*", "**/.ipynb_checkpoints", "docs/_build", "runs", "dist", "build", "shared", "tests"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]

# what is written: GitHub's Markdown with formulas; notebooks as they were run by the tests
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"

# the reference: what a package exports, types from the annotations
toc_object_entries = False  # tables stand at the top of each page; in the sidebar they would be a thousand lines
autodoc_default_options = {"show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "qgen"
html_copy_source = False
html_show_sourcelink = False
html_extra_path = ["site"]  # index.html, which leads to docs/index.html


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("source-read", fill_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
