"""``qgen export`` and the way back: a trained circuit for a device, and events from what was measured there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.terminal import wrote

__all__ = ["export", "from_counts"]


def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    model: Annotated[
        str | None, typer.Option(help="Name of a model in the run; not needed if only one can be exported.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which of the run's trainings; the first if not given.")] = None,
    condition: Annotated[
        list[float] | None, typer.Option(help="What the circuit is conditional on, a value for each column.")
    ] = None,
    format: Annotated[str, typer.Option(metavar="qasm3|qasm2|qpy|json", help="How the circuit is written.")] = "qasm3",
    device: Annotated[
        str | None,
        typer.Option(help="Bring it onto the gates and qubits of this device, fake_torino or ibm_torino, say."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of the circuit; circuit.qasm beside the trained model if not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write the circuit of a trained model, to be measured elsewhere, and beside it FILE.json for the way back."""
    from experiments.export import export as write
    from qgen.run import load_run

    done = write(
        load_run(folder),
        model,
        model_seed=seed,
        condition=condition or (),
        format=format,
        device=device,
        out=out,
        force=force,
    )
    for line in done.lines:
        typer.echo(line)
    wrote(done.program, "the circuit")
    wrote(done.facts, f"how its bits become events: `qgen data from-counts {done.facts} COUNTS --out FILE`")


def from_counts(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FACTS COUNTS...", help="What `qgen export` wrote beside a circuit, and its counts as JSON; pairs."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File of events to write (HDF5).")],
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers: places in cells, and the order.")] = 0,
) -> None:
    """Turn bits that were measured elsewhere into events; several circuits (conditions) go into one file."""
    from experiments.export import measured_events
    from qgen.data import write_events
    from qgen.files import check_place

    if len(files) % 2:
        raise ValueError(f"{len(files)} files are given; pairs of FACTS and COUNTS are needed")
    check_place(out)
    events = measured_events(list(zip(files[::2], files[1::2], strict=True)), seed)
    write_events(out, events)
    typer.echo(f"{out}: {len(events)} events")
