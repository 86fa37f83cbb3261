"""``qgen sample`` and ``qgen data``: the commands that write files of events, or look into them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.simulate import simulate

__all__ = ["data", "sample"]

data = typer.Typer(help="Simulate and inspect events.", no_args_is_help=True)
data.add_typer(simulate, name="simulate")


def sample(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    model: Annotated[str, typer.Option(help="Name of a model in the run.")],
    out: Annotated[Path, typer.Option(help="File to write (HDF5).")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of events.")] = 1000,
    condition: Annotated[
        list[float] | None, typer.Option(help="The same condition for all events, a value for each column.")
    ] = None,
    model_seed: Annotated[
        int | None, typer.Option(help="Which of the run's trainings; the first if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    backend: Annotated[
        str | None,
        typer.Option(metavar="KIND|YAML|FILE", help="Where its circuits run; the run's backend if not given."),
    ] = None,
) -> None:
    """Draw events from a trained model; without --condition, under the conditions of randomly chosen test events."""
    from experiments.rescore import backend_of_text
    from qgen.data import write_events
    from qgen.files import check_place
    from qgen.run import load_run

    check_place(out)
    where = None if backend is None else backend_of_text(backend)
    events = load_run(folder).sample(
        model, n, condition=condition, model_seed=model_seed, seed=seed, device=device, backend=where
    )
    write_events(out, events)
    typer.echo(f"{out}: {n} events of {model}")


@data.command()
def describe(file: Annotated[Path, typer.Argument(help="A file of events.")]) -> None:
    """Say what a file of events holds: layout, number of events, ranges, problems (then the exit status is 1)."""
    from qgen.data import describe as describe_file

    facts = describe_file(file)
    for key, value in facts.items():
        typer.echo(f"{key}: {value}")
    if facts["problems"] != "none":
        raise typer.Exit(1)
