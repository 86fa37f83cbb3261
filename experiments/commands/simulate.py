"""``qgen data simulate``: events of the lab's own simulations, written to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["simulate"]

simulate = typer.Typer(help="Simulate events.", no_args_is_help=True)


@simulate.command()
def muon(
    out: Annotated[Path, typer.Option(help="File to write (HDF5).")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of events.")] = 10_000,
    beam_energy: Annotated[
        list[float] | None, typer.Option(help="GeV; repeated, the events are spread over all.")
    ] = None,
    mediator_mass: Annotated[float, typer.Option(help="GeV.")] = 0.2,
    target: Annotated[str, typer.Option(help="Symbol of the target's element.")] = "Pb",
    mediator: Annotated[Literal["vector", "scalar"], typer.Option(help="Spin of the force carrier.")] = "vector",
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Simulate muons that radiate a force carrier on a fixed target (improved Weizsaecker-Williams)."""
    from qgen.data import simulate_muon, write_events

    events = simulate_muon(
        n=n,
        beam_energy=beam_energy or 100.0,
        mediator_mass=mediator_mass,
        target=target,
        mediator=mediator,
        seed=seed,
    )
    write_events(out, events)
    typer.echo(f"{out}: {n} events")
