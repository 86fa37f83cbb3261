from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qgen import fit
from qgen.random import new_generator, normal
from qgen.training import Adversarial
from qgen.training.discriminators import MLP, make_discriminator
from qgen_toys import Affine, linear_events


def critic(**options: Any) -> MLP:
    made = make_discriminator({"kind": "mlp", "spectral_norm": True, **options}, 3, 1, seed=4)
    assert isinstance(made, MLP)
    return made


def layers(network: MLP) -> list[nn.Linear]:
    return [layer for layer in network.network if isinstance(layer, nn.Linear)]


def original(layer: nn.Linear) -> nn.Parameter:
    """The parameter that a layer's weight is made of."""
    return dict(layer.named_parameters())["parametrizations.weight.original"]


def weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach()


def events(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    both = normal((n, 4), new_generator(seed), dtype=torch.float64)
    return both[:, :3], both[:, 3:]


def converge(network: MLP) -> None:
    for _ in range(300):
        network(*events(2))


@pytest.mark.parametrize("hidden", [(), (16,), (32, 24)])
def test_every_layer_has_a_largest_singular_value_of_one(hidden: tuple[int, ...]) -> None:
    network = critic(hidden=hidden)
    with torch.no_grad():
        for layer in layers(network):
            original(layer).mul_(7)
    converge(network)
    for layer in layers(network):
        assert np.linalg.svd(weight(layer).numpy(), compute_uv=False)[0] == pytest.approx(1, abs=1e-3)


def test_the_first_weights_are_those_without_it_divided() -> None:
    plain = weight(layers(critic(hidden=(16,), spectral_norm=False))[0])
    normed = critic(hidden=(16,))
    converge(normed)
    sigma = np.linalg.svd(plain.numpy(), compute_uv=False)[0]
    torch.testing.assert_close(weight(layers(normed)[0]), plain / sigma, atol=1e-6, rtol=0)


def test_scores_change_no_more_than_their_inputs() -> None:
    network = critic(hidden=(32, 32))
    converge(network)
    (a, c), (b, d) = events(500, 1), events(500, 2)
    with torch.no_grad():
        change = (network(a, c) - network(b, d)).abs()
    assert (change <= (1 + 1e-3) * torch.cat([a - b, c - d], 1).norm(dim=1)).all()


def test_the_gradient_is_that_of_the_divided_weights() -> None:
    """Against the closed form for a layer: the gradient of ``f(W / sigma)``, sigma's own slope being ``u v^T``."""
    network = critic(hidden=())
    converge(network)
    (layer,) = layers(network)
    values, condition = events(20)
    network.zero_grad()
    network(values, condition).sum().backward()
    free = original(layer)
    u, s, v = torch.linalg.svd(free.detach(), full_matrices=False)
    outer = torch.cat([values, condition], 1).sum(0, keepdim=True)
    expected = outer / s[0] - (outer * free.detach()).sum() / s[0] ** 2 * (u[:, :1] @ v[:1])
    torch.testing.assert_close(free.grad, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("game", ["non-saturating", "wasserstein-gp"])
def test_an_interrupted_training_ends_the_same(game: Any, tmp_path: Path) -> None:
    data = linear_events(200)

    def train(steps: int, stop: int | None = None) -> Affine:
        model = Affine(2, 1)
        path = tmp_path / f"{game}-{stop}.ckpt"

        def interrupt(record: dict[str, float]) -> None:
            if stop is not None and record["step"] > stop:
                raise KeyboardInterrupt

        objective = Adversarial(game, {"kind": "mlp", "hidden": [8], "spectral_norm": True})
        options: dict[str, Any] = {"steps": steps, "batch_size": 32, "log_every": 1, "checkpoint_every": 5}
        if stop is not None:
            with pytest.raises(KeyboardInterrupt):
                fit(model, data, objective, checkpoint=path, callback=interrupt, **options)
            model = Affine(2, 1)
            objective = Adversarial(game, {"kind": "mlp", "hidden": [8], "spectral_norm": True})
        fit(model, data, objective, checkpoint=path, **options)
        return model

    whole, resumed = train(20), train(20, stop=12)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_seed_fixes_it_and_the_global_random_numbers_stay() -> None:
    state = torch.get_rng_state()
    first, second = critic(), critic()
    assert torch.equal(first(*events(9)), second(*events(9)))
    assert torch.equal(torch.get_rng_state(), state)
