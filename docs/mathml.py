"""Formulas as MathML, which browsers draw by themselves: no script is loaded, the site works without a network."""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

SPELLED = {r"\dots": r"\ldots", r"\textstyle": ""}
"""What the converter does not know, by what it knows."""


def mathml(tex: str, *, block: bool) -> str:
    """A formula of LaTeX; the converter takes the two digits of ``\\frac12`` for one number, so they get braces."""
    tex = re.sub(r"(\\[td]?frac)\s*(\w)\s*(\w)", r"\1{\2}{\3}", tex)
    for word, known in SPELLED.items():
        tex = tex.replace(word, known)
    return tex2mathml(tex, as_block=block)


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line of text."""
    translator.body.append(mathml(node.astext(), block=False))
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """A formula of its own line."""
    translator.body.append(mathml(node.astext(), block=True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
