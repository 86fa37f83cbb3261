"""The Geant4 program: a process that simulates blocks of showers, one Geant4 run each, until its input ends.

It is started as a script by :mod:`qgen.data.geant4` and knows nothing of the lab, so that it starts fast and what
Geant4 prints, keeps for the whole process or ends with stays in it. The first line of its input describes calorimeter,
particle and physics, every other one a block: JSON. For each block it writes the deposits to a file and then a line to
its output.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

import numpy as np

__all__: list[str] = []

START = 1.0
"""Where the particle starts: mm before the front face."""


class Showers:
    """Geant4 with one calorimeter, ready to run.

    Args:
        setup: ``calorimeter`` (``layers``, ``pads``, ``pad_mm``, ``passive``, ``passive_mm``, ``active``,
            ``active_mm``; materials by Geant4's names), ``particle``, ``physics`` (a class of Geant4), ``cut_mm``.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        import geant4_pybind as g4

        self._g4 = g4
        self._energies: list[float] = []
        self._deposits: list[dict[int, float]] = []
        self._run = g4.G4RunManagerFactory.CreateRunManager(g4.G4RunManagerType.Serial)
        self._run.SetVerboseLevel(0)
        self._run.SetUserInitialization(_detector(g4, setup["calorimeter"]))
        physics = g4.G4VModularPhysicsList()
        physics.RegisterPhysics(getattr(g4, setup["physics"])())
        physics.SetDefaultCutValue(setup["cut_mm"] * g4.mm)
        physics.SetVerboseLevel(0)
        self._run.SetUserInitialization(physics)
        g4.G4EmParameters.Instance().SetVerbose(0)
        self._run.SetUserInitialization(_actions(g4, setup, self._energies, self._deposits))
        self._run.Initialize()

    def block(self, energies: list[float], seed: int, file: str) -> None:
        """Simulate showers of these energies (MeV) and write which shower left how much (MeV) in which pad."""
        self._energies[:] = energies
        self._deposits.clear()
        self._g4.G4Random.setTheSeed(seed)
        self._run.BeamOn(len(energies))
        np.savez(
            file,
            shower=np.repeat(np.arange(len(energies)), [len(hits) for hits in self._deposits]),
            voxel=np.array([voxel for hits in self._deposits for voxel in hits], dtype=np.int64),
            energy=np.array([energy for hits in self._deposits for energy in hits.values()], dtype=np.float64),
        )


def _detector(g4: Any, calorimeter: dict[str, Any]) -> Any:
    """Layers of a passive and an active plate, the active one divided into pads, in vacuum; it begins at z = 0."""
    mm = g4.mm
    half_side = calorimeter["pads"] * calorimeter["pad_mm"] / 2 * mm
    pad = calorimeter["pad_mm"] * mm
    passive, active = calorimeter["passive_mm"] * mm, calorimeter["active_mm"] * mm
    depth = calorimeter["layers"] * (passive + active)

    def volume(name: str, half: tuple[float, float, float], material: Any) -> Any:
        return g4.G4LogicalVolume(g4.G4Box(name, *half), material, name)

    def put(what: Any, where: Any, z: float) -> Any:
        return g4.G4PVPlacement(None, g4.G4ThreeVector(0, 0, z), what, what.GetName(), where, False, 0)

    class Detector(g4.G4VUserDetectorConstruction):
        def Construct(self) -> Any:
            nist = g4.G4NistManager.Instance()
            vacuum, absorber, sensor = (
                nist.FindOrBuildMaterial(name)
                for name in ("G4_Galactic", calorimeter["passive"], calorimeter["active"])
            )
            world = volume("world", (2 * half_side, 2 * half_side, depth + 10 * START * mm), vacuum)
            whole = g4.G4PVPlacement(None, g4.G4ThreeVector(), world, "world", None, False, 0)
            stack = volume("stack", (half_side, half_side, depth / 2), vacuum)
            put(stack, world, depth / 2)
            layer = volume("layer", (half_side, half_side, (passive + active) / 2), vacuum)
            g4.G4PVReplica("layer", layer, stack, g4.kZAxis, calorimeter["layers"], passive + active)
            put(volume("passive", (half_side, half_side, passive / 2), absorber), layer, -active / 2)
            plate = volume("active", (half_side, half_side, active / 2), sensor)
            put(plate, layer, passive / 2)
            strip = volume("strip", (pad / 2, half_side, active / 2), sensor)
            g4.G4PVReplica("strip", strip, plate, g4.kXAxis, calorimeter["pads"], pad)
            pads = volume("pad", (pad / 2, pad / 2, active / 2), sensor)
            g4.G4PVReplica("pad", pads, strip, g4.kYAxis, calorimeter["pads"], pad)
            return whole

        def ConstructSDandField(self) -> None:
            n = calorimeter["pads"]
            detector = g4.G4MultiFunctionalDetector("pads")
            # layer, x and y are the copy numbers three, one and no levels above the pad
            detector.RegisterPrimitive(g4.G4PSEnergyDeposit3D("energy", calorimeter["layers"], n, n, 3, 1, 0))
            g4.G4SDManager.GetSDMpointer().AddNewDetector(detector)
            self.SetSensitiveDetector("pad", detector)

    return Detector()


def _actions(g4: Any, setup: dict[str, Any], energies: list[float], deposits: list[dict[int, float]]) -> Any:
    """Shoot one particle of the next energy into each event, and keep what its shower left in the pads."""
    parent = os.getppid()

    class Gun(g4.G4VUserPrimaryGeneratorAction):
        def __init__(self) -> None:
            super().__init__()
            self.gun = g4.G4ParticleGun(1)
            self.gun.SetParticleByName(setup["particle"])
            self.gun.SetParticleMomentumDirection(g4.G4ThreeVector(0, 0, 1))
            self.gun.SetParticlePosition(g4.G4ThreeVector(0, 0, -START * g4.mm))

        def GeneratePrimaries(self, event: Any) -> None:
            if os.getppid() != parent:
                os._exit(1)  # nobody waits for the showers any more
            self.gun.SetParticleEnergy(energies[event.GetEventID()] * g4.MeV)
            self.gun.GeneratePrimaryVertex(event)

    class Reader(g4.G4UserEventAction):
        def EndOfEventAction(self, event: Any) -> None:
            collection = g4.G4SDManager.GetSDMpointer().GetCollectionID("pads/energy")
            deposits.append(dict(iter(event.GetHCofThisEvent().GetHC(collection))))

    class Actions(g4.G4VUserActionInitialization):
        def Build(self) -> None:
            self.SetUserAction(Gun())
            self.SetUserAction(Reader())

    return Actions()


def _serve(lines: TextIO, answers: TextIO) -> None:
    showers = Showers(json.loads(lines.readline()))
    for line in lines:
        showers.block(**json.loads(line))
        answers.write("done\n")
        answers.flush()


if __name__ == "__main__":
    # Geant4 prints where it likes: its output goes beside the errors, the answers keep the pipe
    pipe = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(pipe, "w") as to:
        _serve(sys.stdin, to)
