import itertools
import math

import numpy as np
import pytest
import torch

from circuits.cv import CVGate, Fock, Program
from circuits.cv.basis import (
    FockBasis,
    basis_size,
    block_mixing,
    blocks_of,
    loss_mixing,
    pair_mixing,
    single_mixing,
)

BASES = [FockBasis(modes, cutoff, kind) for modes in (1, 2, 3) for cutoff in (1, 2, 4) for kind in ("mode", "total")]


@pytest.mark.parametrize("basis", BASES, ids=str)
def test_states_in_order(basis):
    wanted = [
        numbers
        for numbers in itertools.product(range(basis.cutoff), repeat=basis.n_modes)
        if basis.kind == "mode" or sum(numbers) < basis.cutoff
    ]
    assert basis.occupations.tolist() == [list(numbers) for numbers in wanted]
    assert basis.size == basis_size(basis.n_modes, basis.cutoff, basis.kind) == len(wanted)
    assert basis.find(basis.occupations).tolist() == list(range(basis.size))
    assert basis.find(basis.occupations + basis.cutoff).max() == -1
    assert basis.find(basis.occupations - basis.cutoff).max() == -1


def test_states_of_many_modes_are_found():
    basis = FockBasis(40, 4, "total")  # 4**40 is not a 64-bit integer
    assert basis.find(basis.occupations).tolist() == list(range(basis.size))
    assert basis.find(basis.occupations[-1:] + np.eye(40, dtype=np.int64)).max() == -1
    assert basis.find(np.array([10**30] + [0] * 39)) == -1
    gates = [CVGate("Beamsplitter", (0, 39), (0.5, 0.0))]
    state = Fock(4, basis="total").run(Program(40, gates, photons=[1] + [0] * 39), torch.empty(0))
    photons = np.zeros(40)
    photons[[0, 39]] = math.cos(0.5) ** 2, math.sin(0.5) ** 2
    np.testing.assert_allclose(state.mean_photons(), photons, atol=1e-12)


@pytest.mark.parametrize("basis", BASES, ids=str)
def test_a_mixing_and_its_transposed_are_the_same_matrix(basis):
    rng = np.random.default_rng(0)
    pairs = [block_mixing(basis, 1, 0), pair_mixing(basis, 0, 1)] if basis.n_modes > 1 else []
    for mixing in [single_mixing(basis, basis.n_modes - 1), loss_mixing(basis, 0), *pairs]:
        entries = rng.normal(size=mixing.n_entries)
        matrix = np.zeros((mixing.size, mixing.size))
        matrix[mixing.target, mixing.source] = entries[mixing.entry]
        back = np.zeros_like(matrix)
        back[mixing.transposed.target, mixing.transposed.source] = entries[mixing.transposed.entry]
        np.testing.assert_array_equal(matrix.T, back)
        source, entry = mixing.padded
        padded = np.append(entries, 0.0)
        vector = rng.normal(size=mixing.size)
        np.testing.assert_allclose((padded[entry] * vector[source]).sum(1), matrix @ vector, atol=1e-12)
        assert (np.diff(mixing.target) >= 0).all()
        assert mixing.rows[-1] == len(mixing.target)


@pytest.mark.parametrize("kind", ["mode", "total"])
def test_every_entry_of_a_beamsplitter_is_used(kind):
    basis = FockBasis(2, 5, kind)
    mixing = block_mixing(basis, 0, 1)
    assert sorted(set(mixing.entry.tolist())) == list(range(int(blocks_of(5, kind).start[-1])))
    np.testing.assert_array_equal(basis.occupations.sum(1)[mixing.source], basis.occupations.sum(1)[mixing.target])


def test_pairs_keep_the_difference_and_losses_take_from_both_sides():
    basis = FockBasis(2, 4)
    mixing = pair_mixing(basis, 0, 1)
    difference = basis.occupations[:, 0] - basis.occupations[:, 1]
    np.testing.assert_array_equal(difference[mixing.source], difference[mixing.target])
    mixing = loss_mixing(basis, 1)
    n = basis.occupations[:, 1]
    ket, bra = (n[side(mixing.source)] - n[side(mixing.target)] for side in (lambda i: i // 16, lambda i: i % 16))
    np.testing.assert_array_equal(ket, bra)
    assert ket.min() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3), "n_modes is 0; an integer of at least 1"),
        ((2, 0), "cutoff is 0; an integer of at least 1"),
        ((2, 3, "both"), "basis is 'both'; allowed are mode, total"),
    ],
)
def test_bad_bases(arguments, message):
    with pytest.raises(ValueError, match=message):
        FockBasis(*arguments)
