from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from circuits import Circuit, Gate, ansatz
from circuits.angle_layers import angle_layers
from experiments.config import resolve
from experiments.experiment import Experiment
from experiments.run import run_experiment
from qgen import fit
from qgen.data import Dataset, Feature, muon_events
from qgen.models import BornMachine, DualPQC
from qgen.random import new_generator, normal, uniform
from qgen.registry import generator_class
from qgen.training import MMD, NLL
from qgen_toys import Affine, linear_events

DATA = muon_events(n=300, features=("x", "pt"))


def machine(**options: object) -> BornMachine:
    return BornMachine.for_dataset(DATA, bits=2, layers=2, **options)


def copies(model: BornMachine) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("topology", ["linear", "ring", "all-to-all"])
def test_layers_of_a_hardware_efficient_circuit_are_the_rows_of_its_weights(topology: str) -> None:
    circuit = ansatz.hardware_efficient(5, 3, ("RZ", "RY", "RZ"), topology=topology, final_rotations=True)
    assert torch.equal(angle_layers(circuit), torch.arange(4).repeat_interleave(15))


def test_layers_of_other_circuits() -> None:
    strong = ansatz.strongly_entangling_layers(4, 3)
    assert torch.equal(angle_layers(strong), torch.arange(3).repeat_interleave(12))
    uploaded = ansatz.data_reuploading(3, 2, n_inputs=1)
    assert angle_layers(uploaded).tolist() == [0] * 6 + [1] * 6 + [2] * 6 + [0]
    controlled = Circuit(3, [Gate("CRY", (0, 1), [2]), Gate("RY", 2, [1]), Gate("CRY", (1, 2), [0])], n_angles=4)
    assert angle_layers(controlled).tolist() == [0, 0, 0, 0]
    bricks = ansatz.brickwork(4, 2, ("RY",))
    assert angle_layers(bricks).tolist() == [0] * 4 + [1] * 2 + [1, 2, 2, 1] + [3] * 2


def test_a_layer_trains_from_the_step_at_which_it_joins() -> None:
    weights: list[dict[str, torch.Tensor]] = []
    model = machine()
    start = copies(model)
    settings = {"steps": 30, "layerwise": 10, "learning_rate": 0.05, "keep": "last", "log_every": 1}
    fit(model, DATA, NLL(), **settings, callback=lambda record: weights.append(copies(model)))
    layers = model.weight_layers()
    assert {name: int(layer.max()) for name, layer in layers.items()} == {"weights": 2, "scales": 1}
    for name, layer in layers.items():
        assert torch.equal(
            weights[0][name][layer == 0] != start[name][layer == 0], torch.ones_like(layer[layer == 0]).bool()
        )
        for step, now in enumerate(weights, start=1):
            joined = layer <= (step - 1) // 10
            assert (now[name][~joined] == 0).all()
            moved = now[name][joined] != (weights[step - 2][name][joined] if step > 1 else start[name][joined])
            assert moved.double().mean() > 0.5


def test_until_the_second_layer_joins_it_is_the_training_of_one_layer() -> None:
    """With CZ gates, which leave the basis states alone, layers of zero angles at the end change no probability."""
    options = {"rotations": ("RX", "RY"), "entangler": "CZ", "conditional": False}
    grown, shallow = machine(**options), BornMachine.for_dataset(DATA, bits=2, layers=1, **options)
    with torch.no_grad():
        shallow.weights.zero_()
        shallow.weights[:8] = grown.weights[:8]
    settings = {"steps": 21, "layerwise": 10, "schedule": "constant", "log_every": 1, "batch_size": None}
    losses = [
        [record["loss"] for record in fit(model, DATA, MMD(), **settings).history[:11]] for model in (grown, shallow)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)


def test_growth_reaches_the_loss_of_a_training_of_all_layers() -> None:
    final = {}
    for layerwise in (None, 40):
        model = machine(conditional=False)
        final[layerwise] = fit(model, DATA, NLL(), steps=200, learning_rate=0.1, layerwise=layerwise).history[-1][
            "loss"
        ]
    assert final[40] < final[None] + 0.2


@pytest.mark.parametrize("stop", [20, 24])
def test_resume_is_bit_identical(stop: int, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(record: dict[str, float]) -> None:
        if record["step"] > stop:
            raise Killed

    settings = {"steps": 40, "layerwise": 10, "batch_size": 32, "log_every": 1, "keep": "last"}
    whole, broken, resumed = machine(), machine(), machine()
    fit(whole, DATA, NLL(), **settings)
    path = tmp_path / "state.safetensors"
    with pytest.raises(Killed):
        fit(broken, DATA, NLL(), **settings, checkpoint=path, checkpoint_every=stop, callback=kill)
    fit(resumed, DATA, NLL(), **settings, checkpoint=path, checkpoint_every=stop)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    with pytest.raises(ValueError, match="was trained with layerwise 10, now it is None"):
        fit(machine(), DATA, NLL(), **{**settings, "layerwise": None}, checkpoint=path)


@pytest.mark.parametrize("kind", ["style", "angle", "fully_quantum"])
def test_other_circuit_models_grow_too(kind: str) -> None:
    model = generator_class(kind).for_dataset(DATA, layers=3)
    layers = model.weight_layers()
    assert {name: layer.shape for name, layer in layers.items()} == {
        name: parameter.shape for name, parameter in model.named_parameters()
    }
    n_layers = 1 + max(int(layer.max()) for layer in layers.values())
    assert n_layers > 1
    result = fit(model, DATA, MMD(), steps=2 * n_layers, layerwise=2, batch_size=32, keep="last")
    assert result.steps == 2 * n_layers
    assert all((parameter != 0).all() for parameter in model.parameters())


def test_both_circuits_of_a_dual_pqc_grow() -> None:
    rng = new_generator(0)
    energies = normal((200, 4), rng, dtype=torch.float64).exp()
    condition = uniform((200, 1), rng, dtype=torch.float64)
    data = Dataset(energies, tuple(Feature(f"p{i}", "MeV") for i in range(4)), condition, (Feature("c"),))
    model = DualPQC.for_dataset(data, n_images=4, pqc1_layers=1, pqc2_layers=2, latent_size=1)
    layers = model.weight_layers()
    assert {name: (layer.shape, int(layer.max())) for name, layer in layers.items()} == {
        "weights1": (model.weights1.shape, 1),
        "factors1": (model.factors1.shape, 0),
        "weights2": (model.weights2.shape, 2),
        "factors2": (model.factors2.shape, 1),
    }
    fit(model, data, MMD(), steps=6, layerwise=2, batch_size=32, keep="last")
    assert all((parameter != 0).all() for parameter in model.parameters())


def test_mistakes_are_one_line() -> None:
    data = linear_events()
    with pytest.raises(ValueError, match="layerwise is 5, but Affine does not say of which layers its weights are"):
        fit(Affine.for_dataset(data), data, NLL(), layerwise=5)
    with pytest.raises(ValueError, match="layerwise is 0; at least 1 step"):
        fit(machine(), DATA, NLL(), layerwise=0)
    with pytest.raises(
        ValueError, match="layerwise is 10: the last of 3 layers would join after 20 steps, there are 20"
    ):
        fit(machine(), DATA, NLL(), steps=20, layerwise=10)

    class Mistaken(Affine):
        def weight_layers(self) -> dict[str, torch.Tensor]:
            return {"mean": torch.zeros(3, dtype=torch.long)}

    with pytest.raises(ValueError, match=r"weight_layers of Mistaken: 'mean' has shape \(3,\), the parameter: \(2,\)"):
        fit(Mistaken.for_dataset(data), data, NLL(), layerwise=5)


def test_a_run_grows_and_is_told_of_too_few_steps_before_it_starts(tmp_path: Path) -> None:
    def experiment(layerwise: int) -> Experiment:
        training = {"steps": 12, "layerwise": layerwise}
        model = {"kind": "born_machine", "layers": 2, "objective": {"kind": "nll"}, "training": training}
        data = {"kind": "muon", "n": 400, "features": ["x", "pt"]}
        return resolve({"name": "grown", "dataset": data, "models": {"m": model}, "evaluation": {"metrics": ["ks"]}})

    with pytest.raises(ValueError, match=r"models.m: layerwise is 6: the last of 3 layers would join after 12 steps"):
        run_experiment(experiment(6), tmp_path / "late")
    assert not (tmp_path / "late" / "config.yaml").exists()
    folder = run_experiment(experiment(4), tmp_path / "run")
    assert json.loads((folder / "results.json").read_text())["models"]["m"]["status"] == "completed"
