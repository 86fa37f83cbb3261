"""What commands say: results on standard output; progress, remarks and mistakes on standard error."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from experiments.trained import Reporter

__all__ = ["aside", "console", "counting", "ended_by_signal", "interruptible", "progress", "say", "wrote"]

WIDTH = 140
"""Of tables in a file or a pipe."""


def console() -> Console:
    """Where results go: as wide as the terminal, and wide enough for one table in a file or a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH)


def aside() -> Console:
    """Where progress and remarks go, so that standard output holds the result alone."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True)


def say(line: str) -> None:
    """A mistake or a warning, as one line."""
    print(f"qgen: {' '.join(line.split())}", file=sys.stderr)


def wrote(place: Path, what: str) -> None:
    """Tell what was written where."""
    from rich.text import Text

    aside().print(Text.assemble((str(place), "bold"), f": {what}"))


@contextmanager
def interruptible(line: str) -> Iterator[None]:
    """Work that a user may interrupt: then ``line`` says how to go on, and the exit status is 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted; {line}")
        raise typer.Exit(130) from None


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """Work that SIGTERM ends as Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def progress() -> Iterator[Reporter]:
    """Trainings: a live line on a terminal; elsewhere one line for each stage."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    from experiments.trained import Reporter

    to = aside()
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns, TimeElapsedColumn(), console=to, disable=not to.is_terminal) as shown:

        def stage(model: str, seed: int, steps: int) -> None:
            for task in shown.tasks:
                shown.update(task.id, total=task.completed or 1, completed=task.completed or 1)
            line = f"{model}, seed {seed}"
            shown.add_task(escape(line), total=steps or None, loss="")
            if not to.is_terminal:
                to.print(Text(line + (f": {steps} steps" if steps else "")))

        def record(numbers: dict[str, float]) -> None:
            shown.update(shown.task_ids[-1], completed=numbers["step"], loss=f"loss {numbers['loss']:.4g}")

        yield Reporter(stage, record, lambda line: to.print(Text(line, "yellow")))


@contextmanager
def counting() -> Iterator[Callable[[str, int, int], None]]:
    """Work of known length: a live line with what is done and how much; elsewhere a line for each tenth."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    to = aside()
    columns = (TextColumn("{task.description:<40}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=to, disable=not to.is_terminal) as shown:
        task = shown.add_task("", total=None)
        last: tuple[str, int] | None = None

        def tell(what: str, done: int, of: int) -> None:
            nonlocal last
            shown.update(task, description=escape(what), completed=done, total=of)
            tenth = what, 10 * done // max(1, of)
            if not to.is_terminal and what and tenth != last:
                to.print(Text(f"{done}/{of} {what}"))
                last = tenth

        yield tell
