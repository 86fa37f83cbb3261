"""``qgen sweep``: an experiment at every point of a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.terminal import aside, console, counting, ended_by_signal, interruptible, wrote

__all__ = ["sweep"]


def sweep(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|SWEEP",
            help="Of `qgen list experiments`, YAML (of a sweep as well), or a sweep's folder.",
        ),
    ],
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="a.b=1,2", help="Values of one field, or a range 0:10; may be repeated."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Set one field everywhere; may be repeated.")
    ] = None,
    farm: Annotated[
        str | None,
        typer.Option(
            metavar="FARM", help="Where jobs run: here, processes=4, dask=4, slurm=20, ...; here if not given."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the sweep; runs/NAME-sweep if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep that is in the folder.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="tensorboard|mlflow", help="Also show every job there; may be repeated."),
    ] = None,
    report: Annotated[bool, typer.Option(help="Write report.html into the folder.")] = True,
) -> None:
    """Train and judge an experiment at every point of a grid; exit status 1 if a job failed."""
    from rich.text import Text

    from experiments.report.sweep import write_sweep
    from experiments.sweep import Told
    from experiments.sweep import sweep as run_sweep
    from experiments.sweep.terminal import sweep_table

    to = aside()
    with (
        interruptible("the same command with --resume goes on, no finished job is run again"),
        ended_by_signal(),
        counting() as tell,
    ):
        told = Told(tell, lambda line: to.print(Text(line, "yellow")))
        found = run_sweep(
            source,
            grid,
            overrides=overrides or (),
            farm=farm,
            out=out,
            resume=resume,
            device=device,
            track=track or (),
            told=told,
        )
    console().print(sweep_table(found))
    wrote(found.folder, "results.parquet, results.csv and a run for each job")
    if report:
        wrote(write_sweep(found, found.folder / "report.html"), "the report")
    if found.failures or found.untold:
        raise typer.Exit(1)
