"""``qgen runs``: what has been run, side by side, and what of it can go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.terminal import aside, console, progress, say

if TYPE_CHECKING:
    from experiments.runs import Entry, Status

__all__ = ["runs"]

runs = typer.Typer(help="List, compare, track and clean runs.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Where to look; runs below it are found.")]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="FIELD OP VALUE",
        help="As model=flow, 'metric<0.1', status=unfinished, 'age>30d', 'models.flow.layers>=2'; all must hold.",
    ),
]
Metric = Annotated[str | None, typer.Option(help="Which metric is shown; the first of each run if not given.")]
Inside = Annotated[bool, typer.Option("--inside", help="Also the jobs of sweeps.")]


@runs.command("list")
def list_(
    folder: Folder = Path("runs"),
    filters: Filters = None,
    sort: Annotated[
        str, typer.Option(metavar="[-]FIELD", help="As age, -size or metric; names sort first.")
    ] = "folder",
    metric: Metric = None,
    inside: Inside = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As comma-separated values.")] = False,
) -> None:
    """List runs, sweeps and searches: how far they are, how large, and how well the best model did."""
    from experiments.runs_table import as_rows, csv_text, runs_table

    if as_json and as_csv:
        raise ValueError("--json and --csv are both given; choose one")
    found = _chosen(folder, filters, metric, inside, sort)
    if as_json:
        typer.echo(json.dumps(as_rows(found, metric), indent=1))
    elif as_csv:
        typer.echo(csv_text(as_rows(found, metric)), nl=False)
    else:
        console().print(runs_table(found, folder, metric))


@runs.command()
def show(folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, sweep or search.")]) -> None:
    """Say what one run is, where its numbers come from, and how its models did."""
    from experiments.runs import entry_of
    from experiments.runs_table import facts_table
    from experiments.tables import results_table
    from qgen.run import load_run

    entry = entry_of(folder)
    if entry is None:
        raise ValueError(f"{folder}: no run, sweep or search is here")
    if entry.status == "damaged":
        raise ValueError(f"{folder}: damaged ({entry.reason})")
    run = load_run(folder) if entry.what == "run" else None
    out = console()
    out.print(facts_table(entry, run))
    if run is not None and entry.results is not None:
        out.print(results_table(run.results))


@runs.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Folders of finished runs.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Only this metric; may be repeated. The headline ones, without.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what differs between runs, field by field, and whether their metrics differ beyond the uncertainties."""
    from experiments.runs_compare import compared
    from experiments.runs_table import comparison_tables
    from qgen.run import load_run

    found = compared([load_run(folder) for folder in folders], metric or ())
    if as_json:
        typer.echo(json.dumps(found.plain(), indent=1, default=str))
    else:
        console().print(comparison_tables(found))


@runs.command()
def track(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    to: Annotated[list[str], typer.Option(metavar="tensorboard|mlflow", help="May be repeated.")],
) -> None:
    """Show a run in TensorBoard or MLflow from its folder alone; what is known there is not told twice."""
    from experiments.tracking import track_again

    with progress() as reporter:
        track_again(folder, to, reporter)


@runs.command()
def clean(
    folder: Folder = Path("runs"),
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Runs without results that nobody works on.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Jobs of sweeps that failed.")] = False,
    finished: Annotated[bool, typer.Option("--finished", help="Runs with results.")] = False,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Checkpoints of finished runs, which stay as they are.")
    ] = False,
    older_than: Annotated[
        str | None, typer.Option(metavar="30d", help="Only what has not changed for so long.")
    ] = None,
    filters: Filters = None,
    inside: Inside = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without, only say what would go.")] = False,
) -> None:
    """Say what would go, or remove it; never a run in work, nor what is not a run, nor anything beyond a link."""
    from experiments.runs import size_text
    from experiments.runs_clean import planned, remove
    from experiments.runs_filter import read_age

    asked: dict[Status, bool] = {"unfinished": unfinished, "failed": failed, "finished": finished}
    statuses = [status for status, wanted in asked.items() if wanted]
    if not statuses and not checkpoints:
        raise ValueError("nothing to clean is named; give --unfinished, --failed, --finished or --checkpoints")
    age = 0.0 if older_than is None else read_age(older_than)
    plan = planned(_chosen(folder, filters, None, inside, "folder"), statuses, checkpoints=checkpoints, older_than=age)
    free, number = 0, 0
    for one in plan:
        what = "the run" if one.files is None else f"{len(one.files)} checkpoint{'s' * (len(one.files) > 1)}"
        kept = one.kept
        if yes and not kept:
            try:
                kept = remove(one)
            except OSError as error:
                kept = f"cannot be removed ({error.strerror})"
        if kept:
            say(f"{one.folder}: stays, it {kept}")
            continue
        free, number = free + one.size, number + 1
        typer.echo(f"{one.folder}: {what}, {one.status}, {size_text(one.size)}")
    done = "freed" if yes else "would be freed; --yes removes it"
    aside().print(f"{number} folder{'s' * (number != 1)}, {size_text(free)} {done}" if number else "nothing to remove")


def _chosen(folder: Path, filters: list[str] | None, metric: str | None, inside: bool, sort: str) -> list[Entry]:
    from experiments.runs import runs_in
    from experiments.runs_filter import chosen, in_order, read_filter

    terms = [read_filter(text) for text in filters or ()]
    found = chosen(list(runs_in(folder, inside=inside)), terms, metric)
    return in_order(found, sort, metric)
