"""What the code says of itself, written into the pages of the reference when the site is built.

A page names it in a comment of its own line: ``<!-- commands -->``, ``<!-- options -->`` or ``<!-- module: NAME -->``.
"""

from __future__ import annotations

import inspect
import re
import sys
from importlib import import_module

import typer.cli
import typer.main
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.pycode import ModuleAnalyzer

ELSEWHERE = {f"qgen.{name}": f"qgen.training.{name}" for name in ("fit", "FitResult", "TrainingDivergedError")}
"""Names that stand in the reference under another one."""


def commands() -> str:
    """Every command of the command line with its arguments and options."""
    from experiments.cli import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="qgen")
    text = typer.cli.get_docs_for_click(obj=command, ctx=context, name="qgen", indent=1)
    return re.sub(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+", "", text)  # lists whose lines are cut off


def options() -> str:
    """What ``qgen list`` prints."""
    from experiments.catalogue import CATALOGUES

    parts = []
    for word, rows in CATALOGUES.items():
        parts.append(f"## {word}")
        for name, what, texts in rows():
            parts += [f"### {name}", escape(what), "\n".join(f"- `{text}`" for text in texts)]
    return "\n\n".join(parts)


def escape(text: str) -> str:
    """Plain text as Markdown shows it."""
    return re.sub(r"([\\`*_$<\[\]])", r"\\\1", text)


def module(name: str) -> str:
    """A module: what it is, a list of its public names, and each of them."""
    own = import_module(name)
    things = {one: getattr(own, one) for one in own.__all__ if not inspect.ismodule(getattr(own, one))}
    texts = {one: words_of(thing) or words_below(name, one) for one, thing in things.items()}
    home = {one: ELSEWHERE.get(f"{name}.{one}", f"{name}.{one}") for one in things}
    names = [f"- {{py:obj}}`{one} <{home[one]}>`: {markdown(first(text))}" for one, text in texts.items()]
    entries = [f".. automodule:: {name}", "   :no-members:", "", "```", "", *names, "", "```{eval-rst}"]
    for one, thing in things.items():
        if home[one] != f"{name}.{one}":
            continue
        if inspect.isclass(thing):
            entries += [f".. autoclass:: {name}.{one}", "   :members:", ""]
        elif inspect.isfunction(thing):
            entries += [f".. autofunction:: {name}.{one}", ""]
        else:
            lines = GoogleDocstring(texts[one]).lines()
            entries += [f".. py:data:: {one}", "", *(f"   {line}" for line in lines), ""]
    return "\n".join(["```{eval-rst}", *entries, "```"])


def words_of(thing: object) -> str:
    """What an object says of itself; not what its class says."""
    return "" if getattr(thing, "__doc__", None) in (None, type(thing).__doc__) else inspect.getdoc(thing) or ""


def words_below(module: str, name: str) -> str:
    """The text below a constant where it is defined, in the module or in one below it; empty if there is none."""
    for place in [key for key in sys.modules if key == module or key.startswith(f"{module}.")]:
        lines = ModuleAnalyzer.for_module(place).find_attr_docs().get(("", name))
        if lines:
            return "\n".join(lines)
    return ""


def first(text: str) -> str:
    """The first line."""
    return text.partition("\n")[0]


def markdown(line: str) -> str:
    """A line of a docstring in Markdown: formulas between dollars, of other roles their words."""
    parts = re.split(r":math:`([^`]*)`", line)
    words = (re.sub(r":[\w:]+:`~?(?:[\w.]*\.)?([^`]*)`", r"\1", part).replace("``", "") for part in parts)
    return "".join(f"${parts[k]}$" if k % 2 else escape(part) for k, part in enumerate(words))


WRITTEN = {"commands": commands, "options": options, "module": module}


def fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """Put what the code says in the place of a page's comments."""
    if page.startswith("docs/reference/"):
        comment = re.compile(rf"^<!-- ({'|'.join(WRITTEN)})(?:: (\S+))? -->$", re.MULTILINE)
        source[0] = comment.sub(lambda found: WRITTEN[found[1]](*filter(None, found.groups()[1:])), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("source-read", fill_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
