"""The manual as a site. The source folder is the repository, so that links between pages are those of the files.

``make docs`` builds it; by hand::

    sphinx-build -W --keep-going -c docs . docs/_build
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

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
    "arxiv",
    "filled_in",
    "mathml",
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
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_extra_path = ["site"]  # index.html, which leads to docs/index.html
