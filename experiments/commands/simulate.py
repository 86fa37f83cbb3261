"""``qgen data simulate``: events of the lab's own simulations, written to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from qgen.data import CalorimeterDataset, SamplingCalorimeter

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


@simulate.command()
def calorimeter(
    out: Annotated[Path, typer.Option(help="File to write (HDF5, CaloChallenge layout).")],
    engine: Annotated[
        Literal["gflash", "geant4"], typer.Option(help="Parametrised showers, or Geant4 step by step.")
    ] = "gflash",
    n: Annotated[int, typer.Option("-n", min=1, help="Number of showers.")] = 1000,
    energy: Annotated[
        list[float] | None, typer.Option(help="Incident, MeV; repeated, the showers are spread over all.")
    ] = None,
    energy_range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="MeV; uniform between the two. 10000 100000 if no energy is given."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML with the fields below (passive_mm: 5.6, ...).")
    ] = None,
    passive: Annotated[str | None, typer.Option(help="Material of the absorber plates; Pb if not given.")] = None,
    passive_mm: Annotated[float | None, typer.Option(help="Their thickness, mm; 5.6 if not given.")] = None,
    active: Annotated[str | None, typer.Option(help="Material of the active plates; Si if not given.")] = None,
    active_mm: Annotated[float | None, typer.Option(help="Their thickness, mm; 0.5 if not given.")] = None,
    layers: Annotated[int | None, typer.Option(help="Number of layers; 25 if not given.")] = None,
    pads: Annotated[int | None, typer.Option(help="Pads along x, and along y; 25 if not given.")] = None,
    pad_mm: Annotated[float | None, typer.Option(help="Side of a pad, mm; 5 if not given.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    particle: Annotated[str | None, typer.Option(help="With geant4: e-, e+ or gamma; e- if not given.")] = None,
    physics: Annotated[
        str | None,
        typer.Option(help="With geant4: standard or option1 to option4 of its physics; option1 if not given."),
    ] = None,
    cut_mm: Annotated[float | None, typer.Option(help="With geant4: production cut, mm; 0.7 if not given.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="With geant4: processes side by side; all cores if not given.")
    ] = None,
) -> None:
    """Simulate electromagnetic showers in a sampling calorimeter.

    `qgen data simulate calorimeter --energy 10000 --energy 50000 --passive W --passive-mm 3.5 --out showers.h5`
    """
    from experiments.terminal import counting, interruptible
    from qgen.data import event_writer

    if energy and energy_range:
        raise ValueError("--energy and --energy-range are both given; one of them is allowed")
    fields = {
        "passive": passive,
        "passive_mm": passive_mm,
        "active": active,
        "active_mm": active_mm,
        "layers": layers,
        "pads": pads,
        "pad_mm": pad_mm,
    }
    described = _calorimeter(config, {name: value for name, value in fields.items() if value is not None})
    asked = {"particle": particle, "physics": physics, "cut_mm": cut_mm, "workers": workers}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    simulated: Callable[..., Iterator[CalorimeterDataset]]
    if engine == "gflash":
        from qgen.data.gflash import gflash_blocks

        if options:
            raise ValueError(f"--{next(iter(options)).replace('_', '-')} goes with --engine geant4")
        simulated = gflash_blocks
    else:
        from qgen.data.geant4 import geant4_blocks

        simulated = geant4_blocks
    energies = energy or energy_range or (10_000.0, 100_000.0)
    with interruptible("no file was written"), event_writer(out) as writer, counting() as tell:
        for block in simulated(n, energies, described, seed=seed, **options):
            writer.append(block)
            if n > len(block):
                tell("showers", len(writer), n)
    typer.echo(f"{out}: {n} showers")


def _calorimeter(config: Path | None, given: dict[str, Any]) -> SamplingCalorimeter:
    """That of the file, with what the command line gives in its place."""
    from qgen.data import SamplingCalorimeter
    from qgen.plain import read_yaml_file

    if config is None:
        return SamplingCalorimeter.of(given)
    content = read_yaml_file(config)
    if content is None:
        raise ValueError(f"{config}: holds no fields of a calorimeter")
    try:
        SamplingCalorimeter.of(content)
        return SamplingCalorimeter.of({**content, **given})
    except ValueError as error:
        raise ValueError(f"{config}: {error}") from error
