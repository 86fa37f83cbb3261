"""``qgen study``: the commands of the studies; each imports what it needs when it is called."""

from __future__ import annotations

import typer

__all__ = ["study"]

study = typer.Typer(no_args_is_help=True, help="Questions asked of many circuits, trainings or conditions at once.")


@study.callback()
def _study() -> None:
    """Questions asked of many circuits, trainings or conditions at once."""
