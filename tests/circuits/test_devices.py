"""Devices by name, and the report on what is here."""

from __future__ import annotations

import sys

import pytest
import qiskit_ibm_runtime
from qiskit_ibm_runtime.accounts import AccountNotFoundError
from qiskit_ibm_runtime.exceptions import IBMInputValueError

from circuits.backends.devices import device_names, find_device


@pytest.mark.parametrize(
    ("name", "n_qubits"),
    [("fake_manila", 5), ("FakeManilaV2", 5), ("FakeManila", 5), ("fake_torino", 133), ("FakeTorino", 133)],
)
def test_fake_devices(name, n_qubits):
    assert find_device(name).num_qubits == n_qubits


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("aer", "automatic"),
        ("aer_statevector", "statevector"),
        ("aer_density_matrix", "density_matrix"),
        ("aer_matrix_product_state", "matrix_product_state"),
    ],
)
def test_aer(name, method):
    assert find_device(name).options.method == method


def test_every_name_but_the_gpu_is_found():
    names = device_names()
    assert {"aer", "fake_manila", "fake_torino"} <= set(names)
    for name in names:
        if name.startswith("aer") and name != "aer_gpu":
            assert find_device(name).num_qubits > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fake_manilla", r"unknown device 'fake_manilla'; did you mean fake_manila"),
        ("FakeManilla", r"unknown device 'FakeManilla'; did you mean fake_manila"),
        ("air", r"unknown device 'air'; did you mean aer\? known are aer, "),
        ("aer_density", r"did you mean aer_density_matrix"),
        (7, r"device is 7; a name such as 'aer'"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        find_device(name)
    assert "\n" not in str(caught.value)


def test_no_gpu_no_device():
    if "GPU" in find_device("aer").available_devices():
        assert find_device("aer_gpu").options.device == "GPU"
    else:
        with pytest.raises(ValueError, match=r"device 'aer_gpu': this qiskit-aer has no GPU; install qiskit-aer-gpu"):
            find_device("aer_gpu")


class Service:
    """An account at IBM Quantum, as far as ``find_device`` asks it."""

    error: Exception | None = None

    def __init__(self):
        if self.error:
            raise self.error

    def backend(self, name):
        return f"device {name}"

    def least_busy(self, operational, simulator):
        assert operational
        assert not simulator
        return "the least busy"

    @staticmethod
    def saved_accounts():
        return {"default": {}}

    def backends(self):
        return [find_device("fake_manila"), find_device("fake_torino")]


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(qiskit_ibm_runtime, "QiskitRuntimeService", Service)
    monkeypatch.setattr(Service, "error", None)
    return Service


def test_ibm_devices_come_from_the_saved_account(service):
    assert find_device("ibm_torino") == "device ibm_torino"
    assert find_device("least_busy") == "the least busy"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AccountNotFoundError("none"), r"device 'ibm_torino': no IBM Quantum account is saved.*save_account\(token"),
        (
            IBMInputValueError("no such\ninstance"),
            r"device 'ibm_torino': IBM Quantum does not give it: no such instance$",
        ),
        (ConnectionError("no route"), r"device 'ibm_torino': IBM Quantum does not give it: no route$"),
    ],
)
def test_what_ibm_refuses_is_one_line(service, monkeypatch, error, message):
    monkeypatch.setattr(service, "error", error)
    with pytest.raises(ValueError, match=message) as caught:
        find_device("ibm_torino")
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "qiskit_ibm_runtime.fake_provider", None)
    with pytest.raises(
        ImportError, match=r"needs qiskit-ibm-runtime; install it with: pip install 'qgen-hep\[qiskit\]'"
    ):
        find_device("fake_manila")
    assert "fake_manila" not in device_names()
    assert "aer" in device_names()
