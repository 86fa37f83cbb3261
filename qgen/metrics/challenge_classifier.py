"""The CaloChallenge's classifiers of true against generated showers, on voxels and on high-level features.

By the definition of the challenge's evaluation code (`2410.21611 <https://arxiv.org/abs/2410.21611>`_,
github.com/CaloChallenge/homepage): three hidden layers of 2048 LeakyReLU units, Adam at 2e-4, batches of 1000, 50
epochs, 60 % of the events to train, 20 % to choose the epoch of best accuracy and to calibrate by isotonic regression,
20 % to score. There the split changes with every run; here ``seed`` fixes it and the start of the network. Numbers are
of single precision here, of double there. There both samples have as many events; here samples of different sizes
count as much in all.

Each metric is the area (AUC) with, in a row of its own, the divergence (JSD) of the same training. At full size it is
work for a GPU (``device="cuda"``), so they are only taken by their own names.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.voxels import shower_features
from qgen.device import find_device
from qgen.metrics.base import metric
from qgen.metrics.classifier import auc, auc_variance, p_above_half
from qgen.metrics.lacks import lacks_showers
from qgen.metrics.result import MetricResult
from qgen.random import derive_seed, new_generator, seeded

__all__ = [
    "ClassifierScore",
    "high_level_auc",
    "high_level_inputs",
    "low_level_auc",
    "low_level_inputs",
    "network_score",
]

REFERENCE = "CaloChallenge, 2410.21611, code of its evaluation"
HIDDEN_LAYERS = 3
BATCH = 1000
LEARNING_RATE = 2e-4
SPLIT = (0.6, 0.8)
LEAST = 1e-6
"""Calibrated probabilities keep this distance from 0 and 1."""


@dataclass(frozen=True)
class ClassifierScore:
    """What a classifier found.

    Args:
        auc: area under the ROC curve after calibration, with the p-value of an area above 1/2 (Mann-Whitney).
        jsd: Jensen-Shannon divergence that the classifier sees, ``(ln 2 - BCE) / ln 2``, after calibration.
        accuracy: of the best epoch, on the events that chose it.
        epoch: the best one, from 1.
    """

    auc: MetricResult
    jsd: MetricResult
    accuracy: float
    epoch: int


@metric(
    view="events",
    group="tests",
    target=0.5,
    targets={"jsd": 0.0},
    by_default=False,
    slow=True,
    reference=REFERENCE,
    needs=lacks_showers,
)
def low_level_auc(
    truth: CalorimeterDataset,
    generated: CalorimeterDataset,
    seed: int,
    weights: tuple[Tensor, Tensor],
    width: int = 2048,
    epochs: int = 50,
    device: str = "cpu",
) -> Mapping[str, MetricResult]:
    r"""Area under the ROC curve of the CaloChallenge's classifier on voxels; its JSD is low_level_auc/jsd.

    Inputs are ``log10`` of the incident energy (MeV) and the voxels divided by it, those below the image's threshold as
    0. For the network see the module; ``width`` and ``epochs`` are the challenge's. The uncertainty is DeLong's for the
    events that are scored; what another split or start would change is not in it. The row ``jsd`` is the Jensen-Shannon
    divergence that the same network sees once it is calibrated, :math:`(\ln 2 - \mathrm{BCE}) / \ln 2`: at most 1, and
    below 0 for one that has learned nothing. Blind to what the network does not find in its epochs, so it depends on
    the number of events.
    """
    inputs = low_level_inputs(truth), low_level_inputs(generated)
    found = network_score(*inputs, seed, weights, width=width, epochs=epochs, device=device)
    return {"jsd": found.jsd, "": found.auc}


@metric(
    view="events",
    group="tests",
    target=0.5,
    targets={"jsd": 0.0},
    by_default=False,
    slow=True,
    reference=REFERENCE,
    needs=lacks_showers,
)
def high_level_auc(
    truth: CalorimeterDataset,
    generated: CalorimeterDataset,
    seed: int,
    weights: tuple[Tensor, Tensor],
    width: int = 2048,
    epochs: int = 50,
    device: str = "cpu",
) -> Mapping[str, MetricResult]:
    """Area under the ROC curve of the CaloChallenge's classifier on high-level features; its JSD is high_level_auc/jsd.

    Inputs are ``log10`` of the incident energy, of each layer's energy and of the total (MeV, 1e-8 added), each layer's
    centres and widths divided by 100 (as mm), and each layer's sparsity; images without layers are one layer. For the
    rest, the row ``jsd`` too, see ``low_level_auc``. Blind to whatever these features leave out.
    """
    inputs = high_level_inputs(truth), high_level_inputs(generated)
    found = network_score(*inputs, seed, weights, width=width, epochs=epochs, device=device)
    return {"jsd": found.jsd, "": found.auc}


def low_level_inputs(dataset: CalorimeterDataset) -> Tensor:
    """``log10`` of the incident energy (MeV) and the voxels as fractions of it, ``(N, 1 + voxels)``."""
    energy = dataset.conditions
    voxels = torch.where(dataset.samples >= dataset.threshold, dataset.samples, 0.0)
    return torch.cat([energy.log10(), voxels / energy], 1)


def high_level_inputs(dataset: CalorimeterDataset) -> Tensor:
    """High-level features of every layer as the challenge's classifier is given them, ``(N, features)``."""
    features, values = shower_features(dataset, threshold=dataset.threshold)
    energy = dataset.conditions
    columns = [energy.log10()]
    for feature, column in zip(features, values.unbind(1), strict=True):
        x = column[:, None]
        kind = feature.name.split("_")[0]
        if kind == "response":
            x = (x * energy).clamp_min(0).add(1e-8).log10()
        elif kind == "energy":
            x = x.clamp_min(0).add(1e-8).log10()
        elif kind in ("centre", "width"):
            x = x / 100
        columns.append(x)
    return torch.cat(columns, 1)


def network_score(
    truth: Tensor,
    generated: Tensor,
    seed: int,
    weights: tuple[Tensor, Tensor],
    *,
    width: int = 2048,
    epochs: int = 50,
    device: str = "cpu",
) -> ClassifierScore:
    """Train, choose the epoch, calibrate and score the challenge's network on any inputs.

    Args:
        truth: ``(n, d)``.
        generated: ``(m, d)``.
        seed: fixes the split, the start and the batches.
        weights: of the events, not negative, ``(n,)`` and ``(m,)``.
        width: units of each hidden layer.
        epochs: passes through the training events.
        device: where it is trained, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ValueError: a width or number of epochs below 1, or no such device.

    >>> rng = torch.Generator().manual_seed(0)
    >>> x = torch.randn(2, 1000, 2, generator=rng, dtype=torch.float64)
    >>> one = torch.ones(1000, dtype=torch.float64)
    >>> network_score(x[0], x[1] + 2, 0, (one, one), width=64).auc.value > 0.9
    True
    """
    for name, value in (("width", width), ("epochs", epochs)):
        if value < 1:
            raise ValueError(f"option {name} of the classifier is {value}; at least 1 is needed")
    where = find_device(device)
    parts = [_split(len(x), derive_seed(seed, "challenge", which)) for x, which in ((truth, "t"), (generated, "g"))]
    sets = [_Set.of((truth, generated), weights, (t, g), where) for t, g in zip(*parts, strict=True)]
    train, choose, test = sets
    with seeded(derive_seed(seed, "challenge", "start")):
        network = _network(truth.shape[1], width)
    network.to(where)
    accuracy, epoch = _train(network, train, choose, epochs, new_generator(derive_seed(seed, "challenge", "batches")))
    return _score(choose.probabilities(network), choose, test.probabilities(network), test, accuracy, epoch)


@dataclass(frozen=True)
class _Set:
    """Events of both samples: inputs, 1 for truth and 0 for generated, and weights, of equal sum in both samples."""

    x: Tensor
    y: Tensor
    w: Tensor

    @classmethod
    def of(
        cls,
        samples: tuple[Tensor, Tensor],
        weights: tuple[Tensor, Tensor],
        rows: tuple[Tensor, Tensor],
        where: torch.device,
    ) -> _Set:
        x = torch.cat([s[r] for s, r in zip(samples, rows, strict=True)])
        y = torch.cat([torch.ones(len(rows[0])), torch.zeros(len(rows[1]))])
        w = torch.cat([v[r] / v[r].sum() for v, r in zip(weights, rows, strict=True)])
        w = w / w.mean()
        return cls(x.to(where, torch.float32), y.to(where), w.to(where, torch.float32))

    @torch.no_grad()
    def probabilities(self, network: nn.Module) -> Tensor:
        """Of being true, ``(n,)`` on the CPU."""
        return torch.cat([network(x)[:, 0].sigmoid() for x in self.x.split(BATCH)]).cpu().double()


def _split(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    first, second = (int(n * fraction) for fraction in SPLIT)
    a, b, c = torch.randperm(n, generator=new_generator(seed)).tensor_split([first, second])
    return a, b, c


def _network(inputs: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(HIDDEN_LAYERS):
        layers += [nn.Linear(inputs if i == 0 else width, width, dtype=torch.float32), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 1, dtype=torch.float32))


def _train(network: nn.Module, train: _Set, choose: _Set, epochs: int, rng: torch.Generator) -> tuple[float, int]:
    """Leave the network as it was in the epoch of best accuracy; that accuracy and epoch."""
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    best, best_epoch, state = -1.0, 0, network.state_dict()
    target, weight = choose.y.cpu(), choose.w.cpu()
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(len(train.x), generator=rng).to(train.x.device).split(BATCH):
            optimiser.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(
                network(train.x[rows])[:, 0], train.y[rows], train.w[rows]
            )
            loss.backward()
            optimiser.step()
        right = (choose.probabilities(network) > 0.5) == (target > 0.5)
        accuracy = ((right * weight).sum() / weight.sum()).item()
        if accuracy > best:
            best, best_epoch, state = accuracy, epoch, copy.deepcopy(network.state_dict())
        if accuracy == 1:
            break
    network.load_state_dict(state)
    return best, best_epoch


def _score(
    calibration: Tensor, choose: _Set, found: Tensor, test: _Set, accuracy: float, epoch: int
) -> ClassifierScore:
    from sklearn.isotonic import IsotonicRegression

    isotonic = IsotonicRegression(out_of_bounds="clip", y_min=LEAST, y_max=1 - LEAST)
    isotonic.fit(calibration.numpy(), choose.y.cpu().double().numpy(), sample_weight=choose.w.cpu().double().numpy())
    p = torch.from_numpy(isotonic.predict(found.numpy())).double()
    true, weight = test.y.cpu() > 0.5, test.w.cpu().double()
    # higher is more true; ``auc`` asks how often its second sample lies above its first
    scores = p[~true], p[true], weight[~true], weight[true]
    area = auc(*scores)
    area_result = MetricResult(area.item(), _delong(*scores), p_value=p_above_half(area, auc_variance(*scores)))
    loss = -torch.where(true, p.log(), (1 - p).log()) / math.log(2)
    mean = (weight @ loss) / weight.sum()
    error = ((weight**2 @ (loss - mean) ** 2) / weight.sum() ** 2).sqrt()
    return ClassifierScore(area_result, MetricResult(1 - mean.item(), error.item()), accuracy, epoch)


def _delong(low: Tensor, high: Tensor, w: Tensor, v: Tensor) -> float:
    """Standard deviation of :func:`auc` (DeLong et al., Biometrics 44 (1988) 837)."""
    values, rank = torch.cat([low, high]).unique(return_inverse=True)
    p = torch.bincount(rank[: len(low)], w / w.sum(), len(values))
    q = torch.bincount(rank[len(low) :], v / v.sum(), len(values))
    below, above = (p.cumsum(0) - p / 2)[rank[len(low) :]], (1 - q.cumsum(0) + q / 2)[rank[: len(low)]]
    area = (v / v.sum()) @ below
    variance = ((v / v.sum()) ** 2 @ (below - area) ** 2) + ((w / w.sum()) ** 2 @ (above - area) ** 2)
    return variance.clamp_min(0).sqrt().item()
