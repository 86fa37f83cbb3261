"""The gradient step in each package, in the fastest form that was found for it.

Every function builds one contender, whose result is the loss and its gradient by the angles.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import OURS, SINGLE, TOLERANCE, Absent, Builder, Contender, free_memory
from benchmarks.work import TorchLoss, Work, jax_loss, to_numpy, torch_step
from circuits.backends import Statevector

SINGLE_TOLERANCE = 1e-3
"""Of complex64, as a fraction of the largest entry of the gradient; 1e-5 in absolute terms holds besides."""

STATES_PER_GATE = 1.6
"""State vectors that torch's autograd keeps, as measured on the peers that rely on it."""


def gradient_builders(work: Work) -> dict[str, Builder]:
    """All contenders for the gradient step, ours first; those in complex64 have it in their names."""
    builders: dict[str, Builder] = {
        OURS: lambda: ours(work),
        "default.qubit": lambda: default_qubit(work),
        "lightning.qubit QNode": lambda: lightning_qnode(work),
        "lightning.qubit": lambda: lightning(work),
        "qujax": lambda: qujax(work),
        "deepquantum": lambda: deepquantum(work),
        OURS + SINGLE: lambda: ours(work, single=True),
        "lightning.qubit" + SINGLE: lambda: lightning(work, single=True),
        "qujax" + SINGLE: lambda: qujax(work, single=True),
        "deepquantum" + SINGLE: lambda: deepquantum(work, single=True),
        "torchquantum" + SINGLE: lambda: torchquantum(work),
    }
    if work.batch is not None:  # a QNode runs a batch one by one, as the direct form does with less overhead
        del builders["lightning.qubit QNode"]
    return builders


def need(module: str) -> Any:
    """A module of an optional package.

    Raises:
        Absent: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Absent("not installed") from error


def need_memory(n_bytes: float) -> None:
    """Refuse what does not fit.

    Raises:
        Absent: more than four fifths of what is free.
    """
    if n_bytes > 0.8 * free_memory():
        raise Absent(f"needs {n_bytes / 1e9:.0f} GB")


def ours(work: Work, single: bool = False, device: str = "cpu") -> Contender:
    """``Statevector`` and torch's autograd."""
    backend = Statevector(torch.complex64 if single else torch.complex128, device)
    real = torch.float32 if single else torch.float64
    loss = TorchLoss(work, real, device)
    circuit, angles = work.circuit, work.angles.to(device, real)
    step = torch_step(lambda leaf: backend.probs(circuit, leaf), angles, loss)

    def synchronised() -> Any:
        try:
            result = step()
        except torch.cuda.OutOfMemoryError as error:
            raise Absent("out of memory") from error
        torch.cuda.synchronize()
        return result

    run = step if device == "cpu" else synchronised
    return Contender(run, to_numpy, SINGLE_TOLERANCE if single else TOLERANCE)


# PennyLane ------------------------------------------------------------------------------------------------------------


def operations(work: Work, angles: Any) -> list[Any]:
    """The circuit's gates as PennyLane operations; ``angles[i]`` is a number, or a vector over the batch."""
    import pennylane as qml

    kinds = {"RY": qml.RY, "RZ": qml.RZ}
    return [
        qml.CNOT(gate.wires) if gate.name == "CNOT" else kinds[gate.name](angles[gate.angles[0].index], gate.wires)
        for gate in work.circuit.gates
    ]


def default_qubit(work: Work) -> Contender:
    """Torch's autograd through the device; a batch by broadcasting."""
    import pennylane as qml

    need_memory(STATES_PER_GATE * len(work.circuit) * work.bytes_per_state)
    wires = range(work.n_qubits)

    @qml.qnode(qml.device("default.qubit", wires=work.n_qubits), interface="torch", diff_method="backprop")
    def probabilities(angles: Tensor) -> Any:
        operations(work, angles.unbind(-1))
        return qml.probs(wires=wires)

    return Contender(torch_step(probabilities, work.angles, TorchLoss(work)), to_numpy)


def lightning_qnode(work: Work, device: str = "lightning.qubit") -> Contender:
    """A QNode for the probabilities, and one whose adjoint sweep gives the gradient.

    The gradient of the loss is that of the expectation value of the diagonal ``2 K (p - q)``, so that one sweep is
    enough; differentiating all probabilities would cost one sweep each.
    """
    import pennylane as qml

    wires, loss = range(work.n_qubits), TorchLoss(work)
    try:
        made = qml.device(device, wires=work.n_qubits)
    except (qml.exceptions.DeviceError, ImportError) as error:
        raise Absent("not installed") from error

    @qml.qnode(made, diff_method=None)
    def probabilities(angles: Any) -> Any:
        operations(work, angles)
        return qml.probs(wires=wires)

    @qml.qnode(made, interface="torch", diff_method="adjoint")
    def weighted(angles: Tensor, diagonal: Any) -> Any:
        operations(work, angles.unbind(-1))
        return qml.expval(qml.SparseHamiltonian(diagonal, wires=wires))

    def step() -> tuple[Tensor, Tensor | None]:
        value, pull = loss.value_and_pull(torch.as_tensor(np.asarray(probabilities(work.angles.numpy()))))
        leaf = work.angles.detach().requires_grad_()
        weighted(leaf, _sparse(pull.numpy())).backward()
        return value, leaf.grad

    return Contender(step, to_numpy)


def lightning(work: Work, single: bool = False) -> Contender:
    """The device's parts without a QNode: one forward run serves the loss and the adjoint sweep."""
    import pennylane as qml

    adjoint = need("pennylane_lightning.lightning_qubit._adjoint_jacobian")
    vectors = need("pennylane_lightning.lightning_qubit._state_vector")
    state = vectors.LightningStateVector(work.n_qubits, np.complex64 if single else np.complex128)
    loss = TorchLoss(work, torch.float32 if single else torch.float64)
    wires, trainable = range(work.n_qubits), list(range(work.circuit.n_angles))

    def one(angles: np.ndarray) -> tuple[Tensor, np.ndarray]:
        gates = operations(work, angles)
        state.reset_state()
        final = state.get_final_state(qml.tape.QuantumScript(gates, [qml.probs(wires=wires)]))
        amplitudes = torch.as_tensor(final.state)
        value, pull = loss.value_and_pull(torch.view_as_real(amplitudes).square().sum(-1))
        weight = qml.expval(qml.SparseHamiltonian(_sparse(pull.numpy()), wires=wires))
        tape = qml.tape.QuantumScript(gates, [weight], trainable_params=trainable)
        return value, np.asarray(adjoint.LightningAdjointJacobian(final).calculate_jacobian(tape))

    def step() -> tuple[Tensor, Tensor]:
        rows = work.angles.reshape(-1, work.circuit.n_angles).tolist()
        values, gradients = zip(*(one(row) for row in rows), strict=True)
        return torch.stack(values).sum(), torch.as_tensor(np.stack(gradients))

    return Contender(step, to_numpy, SINGLE_TOLERANCE if single else TOLERANCE)


def _sparse(diagonal: np.ndarray) -> Any:
    import scipy.sparse

    places = np.arange(len(diagonal) + 1)
    return scipy.sparse.csr_matrix((diagonal.astype(np.complex128), places[:-1], places))


# JAX ------------------------------------------------------------------------------------------------------------------


def layer_gates(work: Work) -> tuple[list[str], list[list[int]], list[list[int]]]:
    """Names, wires and angle numbers of one layer, as qujax takes them."""
    layer = work.circuit.gates[: len(work.circuit) // work.layers]
    names = {"RY": "Ry", "RZ": "Rz", "CNOT": "CX"}
    return (
        [names[gate.name] for gate in layer],
        [list(gate.wires) for gate in layer],
        [[angle.index for angle in gate.angles if angle.index is not None] for gate in layer],
    )


def scan_layers(work: Work, layer: Callable[[Any, Any], Any], start: Any) -> Callable[[Any], Any]:
    """All layers as a loop over one, which compiles sooner than the whole circuit and is no slower.

    Only the states between layers are kept for the gradient; recomputing the others was faster from 14 qubits on.
    """
    import jax
    import jax.numpy as jnp

    @jax.checkpoint
    def body(state: Any, angles: Any) -> tuple[Any, None]:
        return layer(angles / jnp.pi, state), None  # qujax counts angles in units of pi

    return lambda angles: jax.lax.scan(body, start, angles.reshape(work.layers, -1))[0]


def qujax(work: Work, single: bool = False) -> Contender:
    """Jitted JAX; a batch by ``vmap``."""
    package = need("qujax")
    import jax
    import jax.numpy as jnp

    need_memory((2 * work.layers + 4 * work.n_qubits) * work.bytes_per_state / (2 if single else 1))
    with jax.enable_x64(not single):
        layer = package.get_params_to_statetensor_func(*layer_gates(work), work.n_qubits)
        final = scan_layers(work, layer, package.all_zeros_statetensor(work.n_qubits))
        loss = jax_loss(work, jnp.float32 if single else jnp.float64)
        states = final if work.batch is None else jax.vmap(final)

        def total(angles: Any) -> Any:
            state = states(angles)
            return loss((state.real**2 + state.imag**2).reshape(*angles.shape[:-1], -1))

        step = jax.jit(jax.value_and_grad(total))
        angles = jnp.asarray(work.angles.numpy())

    def run() -> Any:
        with jax.enable_x64(not single):
            return jax.block_until_ready(step(angles))

    return Contender(run, lambda r: [np.asarray(x, np.float64) for x in r], SINGLE_TOLERANCE if single else TOLERANCE)


# torch ----------------------------------------------------------------------------------------------------------------


def deepquantum_circuit(work: Work, single: bool = False, noise: float | None = None) -> Any:
    """The circuit with its angles as data; with ``noise``, on density matrices and depolarised after every gate."""
    package = need("deepquantum")
    circuit = package.QubitCircuit(work.n_qubits, den_mat=noise is not None)
    for gate in work.circuit.gates:
        if gate.name == "CNOT":
            circuit.cnot(*gate.wires)
        else:
            getattr(circuit, gate.name.lower())(gate.wires[0], encode=True)
        if noise is not None:
            for wire in gate.wires:
                circuit.depolarizing(wire, inputs=math.asin(math.sqrt(noise)))
    return circuit if single else circuit.to(torch.double)


def deepquantum(work: Work, single: bool = False) -> Contender:
    """Torch's autograd; a batch by ``vmap``."""
    circuit = deepquantum_circuit(work, single)
    need_memory(STATES_PER_GATE * len(work.circuit) * work.bytes_per_state / (2 if single else 1))
    real = torch.float32 if single else torch.float64

    def probabilities(angles: Tensor) -> Tensor:
        states = circuit(data=angles)
        return torch.view_as_real(states).square().sum(-1).reshape(*angles.shape[:-1], -1)

    step = torch_step(probabilities, work.angles.to(real), TorchLoss(work, real))
    return Contender(step, to_numpy, SINGLE_TOLERANCE if single else TOLERANCE)


def torchquantum_states(work: Work) -> Callable[[Tensor], Any]:
    """A function from angles, a batch or one, to torchquantum's device in the final state."""
    package = need("torchquantum")
    functional = need("torchquantum.functional")
    gates = {"RY": functional.ry, "RZ": functional.rz}

    def run(angles: Tensor) -> Any:
        columns = angles.reshape(-1, work.circuit.n_angles).unbind(-1)
        device = package.QuantumDevice(n_wires=work.n_qubits, bsz=len(columns[0]))
        for gate in work.circuit.gates:
            if gate.name == "CNOT":
                functional.cnot(device, wires=list(gate.wires))
            else:
                gates[gate.name](device, wires=gate.wires[0], params=columns[gate.angles[0].index or 0][:, None])
        return device

    return run


def torchquantum(work: Work) -> Contender:
    """Torch's autograd, in its one precision; a batch is its native form."""
    states = torchquantum_states(work)
    need_memory(STATES_PER_GATE * len(work.circuit) * work.bytes_per_state / 2)

    def probabilities(angles: Tensor) -> Tensor:
        amplitudes = states(angles).states.reshape(*angles.shape[:-1], -1)
        return torch.view_as_real(amplitudes).square().sum(-1)

    step = torch_step(probabilities, work.angles.to(torch.float32), TorchLoss(work, torch.float32))
    return Contender(step, to_numpy, SINGLE_TOLERANCE)
