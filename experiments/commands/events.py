"""``qgen sample`` and ``qgen data``: the commands that write files of events, or look into them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.simulate import simulate
from experiments.terminal import console, counting, interruptible, wrote

__all__ = ["data", "sample"]

data = typer.Typer(help="Fetch, simulate, convert and inspect events.", no_args_is_help=True)
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
    """Draw events from a trained model; without --condition, under the conditions of randomly chosen test events.

    Any number: events are drawn and written block by block.
    """
    from experiments.rescore import backend_of_text
    from qgen.data import event_writer
    from qgen.files import check_place
    from qgen.run import load_run

    check_place(out)
    where = None if backend is None else backend_of_text(backend)
    blocks = load_run(folder).sample_blocks(
        model, n, condition=condition, model_seed=model_seed, seed=seed, device=device, backend=where
    )
    with interruptible("no file was written"), event_writer(out) as writer, counting() as tell:
        for block in blocks:
            writer.append(block)
            if n > len(block):
                tell(f"events of {model}", len(writer), n)
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


@data.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A file of events of any kind.")],
    out: Annotated[Path, typer.Option(help="File to write (HDF5).")],
    binning: Annotated[
        Path | None,
        typer.Option(help="An XML file of the CaloChallenge: where the voxels of its showers are."),
    ] = None,
) -> None:
    """Write the events of any file (LHE, CSV, 3DGAN, CaloChallenge) as HDF5 with checksums, block by block."""
    from qgen.data import event_writer, open_events

    with (
        interruptible("no file was written"),
        open_events(file, binning=binning) as events,
        event_writer(out) as writer,
        counting() as tell,
    ):
        for block in events.blocks():
            writer.append(block)
            if len(events) > len(block):
                tell("events", len(writer), len(events))
    typer.echo(f"{out}: {len(writer)} events")


@data.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="A data set; --list says which there are.")] = None,
    out: Annotated[Path, typer.Option(help="Folder in which the data set gets a folder of its own.")] = Path("data"),
    url: Annotated[
        str | None, typer.Option(help="Another server with the same files under the same names; http is allowed there.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the data sets.")] = False,
) -> None:
    """Download a public data set, resume what was interrupted, and refuse files that do not match their checksums."""
    from qgen.data.fetch import fetch as fetch_data
    from qgen.data.public import PUBLIC

    if list_ or name is None:
        from rich.table import Table

        table = Table("name", "events", "files", "from")
        for key, found in PUBLIC.items():
            table.add_row(key, found.title, str(len(found.files)), found.page)
        console().print(table)
        return
    with interruptible("the same command goes on"), counting() as tell:
        fetched = fetch_data(name, out, url=url, tell=tell)
    for path in fetched.files:
        wrote(path, "checksum verified")
    typer.echo(fetched.config_line())
