from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from qgen.data import load_calorimeter
from qgen.data.clusters import cluster_shapes, nearest, shapes_of

OPTIONS = {"grid": (8,), "max_events": 1500}


@pytest.fixture(scope="module")
def pair():
    return load_calorimeter(**OPTIONS), load_calorimeter(**OPTIONS, cluster_means=4)


def means_of(dataset) -> torch.Tensor:
    return torch.tensor(dataset.provenance["cluster_means"], dtype=torch.float64)


def test_every_shower_keeps_its_energy_and_gets_one_of_the_mean_shapes(pair) -> None:
    whole, clustered = pair
    torch.testing.assert_close(clustered.samples.sum(1), whole.samples.sum(1))
    assert torch.equal(clustered.conditions, whole.conditions)
    means = means_of(clustered)
    assert means.shape == (4, 8)
    torch.testing.assert_close(means.sum(1), torch.ones(4).double())
    torch.testing.assert_close(shapes_of(clustered.samples), means[nearest(shapes_of(whole.samples), means)])
    assert len(torch.unique(shapes_of(clustered.samples).mul(1e9).round(), dim=0)) == 4


def test_clusters_are_those_of_scikit_learn_on_the_training_events_alone(pair) -> None:
    whole, clustered = pair
    train = shapes_of(whole.train.samples)
    means = means_of(clustered)
    found = KMeans(4, n_init=20, random_state=5).fit(train.numpy())
    inertia = (train - means[nearest(train, means)]).square().sum().item()
    assert inertia == pytest.approx(found.inertia_, rel=1e-3)
    labels = nearest(train, means)
    torch.testing.assert_close(means, torch.stack([train[labels == i].mean(0) for i in range(4)]), atol=2e-4, rtol=0)
    count = torch.bincount(labels, minlength=4)
    assert (count.diff() <= 0).all()


def test_the_seed_fixes_the_clusters() -> None:
    first, second = (load_calorimeter(**OPTIONS, cluster_means=3) for _ in range(2))
    assert torch.equal(first.samples, second.samples)


def test_splits_and_transforms_are_those_of_the_new_events(pair) -> None:
    whole, clustered = pair
    assert torch.equal(clustered.train.conditions, whole.train.conditions)
    values = clustered.transform(clustered.train.samples, clustered.train.conditions)
    torch.testing.assert_close(values.mean(0), torch.zeros(8).double(), atol=1e-9, rtol=0)


def test_more_clusters_than_shapes_are_refused() -> None:
    same = torch.ones(30, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^2 clusters are asked for; the images have only 1 distinct shapes$"):
        cluster_shapes(same, 2)
    with pytest.raises(ValueError, match=r"^31 clusters are asked for; the images have only 30 shapes$"):
        cluster_shapes(same, 31)
    with pytest.raises(ValueError, match=r"^cluster_means is 100: 100 clusters are asked for; the images have only 12"):
        load_calorimeter(max_events=20, cluster_means=100)


@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(2, 9))
@settings(max_examples=15, deadline=None)
def test_means_are_shapes_within_the_images(seed: int, k: int, pixels: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    energies = torch.rand(60, pixels, generator=rng, dtype=torch.float64)
    energies[::7] = 0
    means = cluster_shapes(energies, k, seed)
    assert means.shape == (k, pixels)
    torch.testing.assert_close(means.sum(1), torch.ones(k).double())
    shapes = shapes_of(energies[energies.sum(1) > 0])
    assert (means >= shapes.amin(0) - 1e-12).all()
    assert (means <= shapes.amax(0) + 1e-12).all()
    torch.testing.assert_close(cluster_shapes(7 * energies, k, seed), means)
