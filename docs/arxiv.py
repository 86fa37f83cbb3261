"""Numbers of arXiv become links: ``1804.04168``, wherever they stand in a text."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

NUMBER = re.compile(r"(?<![\d./:])((?:0[7-9]|[12]\d)(?:0[1-9]|1[0-2])\.\d{4,5})(?![\d%]|\.\d)")
"""Year, month, number; four digits of it until 2014, five since then."""


class Links(SphinxTransform):
    """The links of one page."""

    default_priority = 700

    def apply(self) -> None:
        """Cut texts at the numbers; titles, links and what is quoted from code stay as they are."""
        for text in list(self.document.findall(nodes.Text)):
            if any(isinstance(node, KEPT) for node in above(text)):
                continue
            parts = NUMBER.split(text.astext())
            if len(parts) > 1:
                text.parent.replace(text, [link(part) if k % 2 else nodes.Text(part) for k, part in enumerate(parts)])


KEPT = (nodes.FixedTextElement, nodes.literal, nodes.reference, nodes.title, nodes.math, nodes.raw)


def above(node: nodes.Node) -> list[nodes.Node]:
    """What a node stands in, from the inside out."""
    return [] if node.parent is None else [node.parent, *above(node.parent)]


def link(number: str) -> nodes.reference:
    """A link to a paper's page."""
    return nodes.reference("", number, refuri=f"https://arxiv.org/abs/{number}", internal=False)


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_transform(Links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
