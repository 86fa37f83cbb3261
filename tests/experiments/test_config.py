from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.backends import BACKENDS, backend_options
from circuits.backends.make import GRADIENTS, MITIGATIONS
from experiments.config import config_names, load_config, resolve
from experiments.experiment import Evaluation, Experiment, StringOptions
from experiments.sections import options_model
from qgen.data import DATASETS
from qgen.metrics import METRICS
from qgen.registry import generator_class, generators
from qgen.training import OBJECTIVES, fit
from qgen.training.discriminators import discriminators

SMALL: dict[str, Any] = {
    "name": "small",
    "dataset": {"kind": "muon", "n": 400},
    "models": {
        "born": {"kind": "born_machine", "bits": 1, "objective": {"kind": "mmd"}, "training": {"steps": 3}},
        "marginals": {"kind": "marginals"},
    },
}


def small(start: Mapping[str, Any] = SMALL, /, **changes: Any) -> dict[str, Any]:
    """A copy of a configuration, the small one if not given, with dotted fields changed."""
    raw: dict[str, Any] = yaml.safe_load(yaml.safe_dump(start))
    for path, value in changes.items():
        place, *keys = raw, *path.split("__")
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
    return raw


@pytest.mark.parametrize("name", config_names())
def test_every_configuration_of_the_lab_is_valid_and_described(name: str) -> None:
    experiment = load_config(name)
    assert experiment.name == name
    assert experiment.description


def test_resolved_configuration_is_a_fixed_point_and_complete() -> None:
    experiment = resolve(small())
    plain = yaml.safe_load(experiment.to_yaml())
    assert resolve(plain) == experiment
    assert plain["models"]["born"]["layers"] == 4
    assert plain["models"]["born"]["training"]["learning_rate"] == 0.01
    assert plain["dataset"]["beam_energies"] == [50.0, 100.0, 200.0]
    assert plain["evaluation"] == {"metrics": None, "bootstrap": 20, "max_events": None}


def test_overrides_go_over_the_file_in_their_own_types(tmp_path: Any) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    experiment = load_config(
        path, ["seeds=[1, 2]", "models.born.layers=7", "models.born.training.batch_size=null", "name=other"]
    )
    assert experiment.seeds == [1, 2]
    assert experiment.name == "other"
    assert experiment.models["born"].generator.options["layers"] == 7
    assert experiment.models["born"].training is not None
    assert experiment.models["born"].training["batch_size"] is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"models__born__lyers": 3}, r"models\.born\.lyers: key 'lyers' is unknown; did you mean 'layers'"),
        ({"modles": {}}, r"modles: key 'modles' is unknown; did you mean 'models'"),
        ({"evaluation__bootstraps": 3}, r"evaluation\.bootstraps: key .* did you mean 'bootstrap'"),
        ({"evaluation__metrics": ["corelation"]}, r"evaluation\.metrics: metric 'corelation' .* 'correlation'"),
        ({"models__born__kind": "born_machin"}, r"models\.born\.kind: kind .* did you mean 'born_machine'"),
        ({"models__born__layers": 0}, r"models\.born\.layers: input should be greater than or equal to 1 \(found 0\)"),
        ({"models__born__layers": "many"}, r"models\.born\.layers: input should be a valid integer.*'many'"),
        ({"models__born__entangler": "CY"}, r"models\.born\.entangler: input should be 'CNOT' or 'CZ' \(found 'CY'\)"),
        ({"models__born__training__steps": -1}, r"models\.born\.training\.steps: .*greater than or equal to 1"),
        ({"models__born__training__step": 1}, r"models\.born\.training\.step: key .* did you mean 'steps'"),
        ({"models__born__training": 7}, r"models\.born\.training: found 7; expected keys and values"),
        ({"models__born__objective__kind": "mmmd"}, r"models\.born\.objective\.kind: .* did you mean 'mmd'"),
        (
            {"models__born__objective": {"kind": "adversarial", "discriminator": {"kind": "mlp", "hiden": [8]}}},
            r"models\.born\.objective\.discriminator\.hiden: key 'hiden' is unknown; did you mean 'hidden'",
        ),
        (
            {"models__born__objective": {"kind": "adversarial", "discriminator": {"kind": "mlp", "hidden": [8, 0]}}},
            r"models\.born\.objective\.discriminator\.hidden\.1: input should be greater than or equal to 1",
        ),
        (
            {"models__born__objective": {"kind": "adversarial", "discriminator": "mpl"}},
            r"models\.born\.objective\.discriminator\.kind: kind 'mpl' is unknown; did you mean 'mlp'",
        ),
        (
            {"models__born__objective": {"kind": "adversarial", "discriminator": 3}},
            r"models\.born\.objective\.discriminator: found 3; expected keys and values",
        ),
        (
            {"models__born__objective": {"kind": "mixture", "parts": [{"kind": "mmd"}, {"kind": "mdm"}]}},
            r"models\.born\.objective\.parts\.1\.kind: kind 'mdm' is unknown; did you mean 'mmd'",
        ),
        (
            {"models__born__objective": {"kind": "mixture", "parts": [{"kind": "mmd", "weight": 0}]}},
            r"models\.born\.objective\.parts\.0\.weight: input should be greater than 0",
        ),
        (
            {"models__born__objective": {"kind": "mixture", "parts": [{"kind": "mmd", "weigth": 1}]}},
            r"models\.born\.objective\.parts\.0\.weigth: key 'weigth' is unknown; did you mean 'weight'",
        ),
        (
            {"models__born__objective": {"kind": "mixture", "parts": [{"kind": "mixture", "parts": []}]}},
            r"models\.born\.objective\.parts\.0: a mixture itself",
        ),
        (
            {"models__born__objective": {"kind": "mixture", "parts": [{"kind": "adversarial"}] * 2}},
            r"models\.born\.objective\.parts: two are adversarial; at most one is allowed",
        ),
        (
            {"models__born__objective": {"kind": "mixture", "parts": [{"kind": "mmd", "bandwidths": []}]}},
            r"models\.born\.objective\.parts\.0: bandwidths are \[\]; at least one is needed",
        ),
        (
            {"models__born__objective": {"kind": "adversarial", "discriminator_betas": [0.5, 2]}},
            r"models\.born\.objective: discriminator_betas are \[0\.5, 2\.0\]; both must be in \[0, 1\)",
        ),
        (
            {"models__born__objective": {"kind": "adversarial", "discriminator": {"kind": "mlp", "hidden": 8}}},
            r"models\.born\.objective\.discriminator\.hidden: expected a list \(found 8\)",
        ),
        (
            {"models__born__objective": {"kind": "mixture", "parts": "mmd"}},
            r"models\.born\.objective\.parts: expected a list \(found 'mmd'\)",
        ),
        ({"evaluation__backends": "statevector"}, r"evaluation\.backends: expected keys and values \(found 'state"),
        ({"models__born__objective": {"kind": "mixture"}}, r"models\.born\.objective\.parts: field required"),
        ({"models__born__objective": {"kind": "mixture", "parts": []}}, r"models\.born\.objective\.parts: .*empty"),
        ({"models__born__objective": None}, r"models\.born\.objective: missing; it needs a kind, one of mmd, nll"),
        ({"models__marginals__training": {}}, r"models\.marginals\.training: marginals is fitted when it is built"),
        ({"models": {}}, r"models: dictionary should have at least 1 item"),
        ({"models": {"../x": {"kind": "marginals"}}}, r"models: '\.\./x' is no name for a model"),
        ({"models": {"x": 3}}, r"models\.x: "),
        ({"dataset": {"n": 3}}, r"dataset\.kind: missing; one of calorimeter, muon"),
        ({"dataset__n": -3}, r"dataset\.n: input should be greater than 0"),
        ({"dataset__beam_energies": [1.0]}, r"dataset\.beam_energies\.0: .*10"),
        ({"seeds": [1, 1]}, r"seeds: \[1, 1\] holds a seed twice"),
        ({"seeds": []}, r"seeds: list should have at least 1 item"),
        ({"seeds": [-1]}, r"seeds\.0: "),
        ({"name": ""}, r"name: string should have at least 1 character"),
        ({"name": None}, r"name: input should be a valid string"),
        ({"threads": 0}, r"threads: "),
        ({"backend": 3}, r"backend: found 3; expected a kind, or keys and values"),
        ({"backend": {}}, r"backend\.kind: missing; one of statevector"),
        ({"backend": "statevectr"}, r"backend\.kind: unknown kind 'statevectr'; did you mean statevector"),
        ({"backend": {"kind": "statevector", "shotz": 9}}, r"backend\.shotz: unknown key 'shotz'; did you mean shots"),
        ({"backend": {"kind": "statevector", "device": "gpu"}}, r"backend: device 'gpu' is unknown"),
        (
            {"backend": {"kind": "statevector", "dtype": "float32"}},
            r"backend\.dtype: found 'float32'; complex64 or complex128",
        ),
        ({"models__born__backend": {"kind": "statevector", "shots": 0}}, r"models\.born\.backend\.shots is 0; an int"),
        ({"models__born__backnd": "statevector"}, r"models\.born\.backnd: key .* did you mean 'backend'"),
        ({"models__marginals__backend": "statevector"}, r"models\.marginals\.backend: marginals runs no circuits"),
        ({"backend": "statevector", "models": {"m": {"kind": "marginals"}}}, r"backend: no model of this experiment"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line) as info:
        resolve(small(**changes))
    assert "\n" not in str(info.value)


def test_a_backend_is_for_all_models_that_run_circuits_and_a_model_may_have_its_own() -> None:
    born = SMALL["models"]["born"]
    measured = {"kind": "statevector", "shots": 100, "dtype": "complex128"}
    models = {**SMALL["models"], "own": {**born, "backend": "statevector"}, "also": born}
    experiment = resolve(small(backend={"kind": "statevector", "shots": 100}, models=models))
    found = {name: model.backend for name, model in experiment.models.items()}
    exact = {"kind": "statevector", "dtype": "complex128"}
    assert found == {"born": measured, "marginals": None, "own": exact, "also": measured}
    text = experiment.to_yaml()
    assert "&" not in text
    assert resolve(yaml.safe_load(text)) == experiment
    assert experiment.plain()["models"]["born"]["backend"] == measured
    assert "backend" not in experiment.plain()["models"]["marginals"]
    assert "backend" not in resolve(small()).plain()["models"]["born"]


def test_a_backend_is_set_from_the_command_line(tmp_path: Any) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    experiment = load_config(path, ["backend.kind=statevector", "backend.shots=64"])
    assert experiment.models["born"].backend == {"kind": "statevector", "shots": 64, "dtype": "complex128"}
    experiment = load_config(path, ["models.born.backend={kind: statevector, dtype: complex64}"])
    assert experiment.models["born"].backend == {"kind": "statevector", "dtype": "complex64"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: [", "not valid YAML"),
        ("- 1\n- 2", "found list; expected keys and values"),
        ("", "found nothing; expected keys and values"),
        ("name: a\nname: b", "key 'name' is given twice"),
        ("name: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(text: str, line: str, tmp_path: Any) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=line) as info:
        load_config(path)
    assert str(path) in str(info.value)


def test_a_binary_file_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(ValueError, match="not a text file"):
        load_config(path)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(FileNotFoundError, match="did you mean 'quickstart-muon'"):
        load_config("quickstart-moun")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seeds", "expected a.b=value"),
        ("models..x=1", "expected a.b=value"),
        ("name.x=1", "name is 'small', it has no keys"),
        ("seeds=[", "not valid YAML .line 1, column 2: "),
        ("backend={kind: statevector, kind: qiskit}", "key 'kind' is given twice"),
    ],
)
def test_a_wrong_override_is_named(override: str, line: str, tmp_path: Any) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    with pytest.raises(ValueError, match=line):
        load_config(path, [override])


NUMBERS = st.sampled_from([0, -1, 2, 10**30, -0.5, 0.5, 1e-300, 1e300])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def outcome(call: Callable[[], object]) -> object:
    """The type of what a call gives, or how many lines its refusal has."""
    try:
        return type(call())
    except ValueError as error:
        return "one line" if len(str(error).splitlines()) == 1 else str(error)


def test_what_an_objective_holds_is_resolved_with_every_default() -> None:
    parts = [{"kind": "mmd"}, {"kind": "adversarial", "discriminator": "minibatch", "weight": 0.5}]
    experiment = resolve(small(models__born__objective={"kind": "mixture", "parts": parts}))
    assert resolve(experiment.plain()) == experiment
    assert experiment.models["born"].objective is not None
    mmd, game = experiment.models["born"].objective.options["parts"]
    assert mmd == {"kind": "mmd", "space": "values", "bandwidths": None, "samples": None, "weight": 1.0}
    assert game["discriminator"] == {"kind": "minibatch", "hidden": [64, 64], "spectral_norm": False}
    assert game["weight"] == 0.5


SECTIONS: list[tuple[dict[str, Any], str, list[str]]] = [
    # a configuration, a section of it, and all fields of that section
    (small(), "", ["name", "description", "dataset", "backend", "models", "seeds", "threads", "checkpoint_every"]),
    (small(), "evaluation", list(Evaluation.model_fields)),
    (small(), "evaluation__strings", list(StringOptions.model_fields)),
    (small(), "models__born", ["kind", "backend", "objective", "training", "tune"]),
    (small(), "models__born__training", list(options_model(fit).model_fields)),
    *(
        (small(evaluation__metrics=[name]), f"evaluation__options__{name}", list(METRICS[name].options))
        for name in METRICS
        if METRICS[name].options
    ),
    *(
        (small(dataset={"kind": kind}), "dataset", ["kind", *options_model(load).model_fields])
        for kind, load in DATASETS.items()
    ),
    *(
        (small(models__born={"kind": kind}), "models__born", ["kind", *options_model(made.for_dataset).model_fields])
        for kind, made in ((kind, generator_class(kind)) for kind in generators())
    ),
    *(
        (
            small(models__born__objective={"kind": kind}),
            "models__born__objective",
            list(options_model(made).model_fields),
        )
        for kind, made in OBJECTIVES.items()
    ),
]
FIELDS = [(raw, f"{section}__{field}" if section else field) for raw, section, fields in SECTIONS for field in fields]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(FIELDS), JSON)
def test_any_value_of_any_field_is_accepted_or_refused_in_one_line(field: tuple[Any, str], value: Any) -> None:
    raw, path = field
    assert outcome(lambda: resolve(small(raw, **{path: value}))) in (Experiment, "one line")


HELD = [
    *(("discriminator", kind, option) for kind in discriminators() for option in ("hidden", "qubits", "backend", "x")),
    *(("parts", kind, option) for kind in OBJECTIVES for option in options_model(OBJECTIVES[kind]).model_fields),
    *(("parts", kind, option) for kind in OBJECTIVES for option in ("weight", "kind")),
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(HELD), JSON)
def test_anything_in_what_an_objective_holds_is_accepted_or_refused_in_one_line(
    held: tuple[str, str, str], value: Any
) -> None:
    place, kind, option = held
    inner = {"kind": kind, option: value}
    outer = {"kind": "adversarial", place: inner} if place == "discriminator" else {"kind": "mixture", place: [inner]}
    assert outcome(lambda: resolve(small(models__born__objective=outer))) in (Experiment, "one line")


OPTIONS = [
    *((kind, (name,)) for kind in BACKENDS for name in (*backend_options(kind), "shots", "mitigation", "gradient")),
    *(("statevector", ("mitigation", name)) for name in MITIGATIONS),
    *(("qiskit", ("gradient", name)) for name in GRADIENTS),
    ("density_matrix", ("noise", "depolarizing")),
    ("trajectories", ("noise", "gates")),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(OPTIONS), JSON)
def test_any_option_of_any_backend_is_accepted_or_refused_in_one_line(
    option: tuple[str, tuple[str, ...]], value: Any
) -> None:
    kind, (outer, *inner) = option
    for key in inner:
        value = {key: value}
    if outer == "mitigation" and inner:
        value = [value]
    assert outcome(lambda: resolve(small(backend={"kind": kind, outer: value}))) in (Experiment, "one line")


def test_a_name_with_a_dot_is_set_from_the_command_line() -> None:
    settings = ["models.born machine, 0.5 %.layers=2", "evaluation.backends.0.5 %.noise.readout=0.2"]
    changed, before = load_config("noise", settings), load_config("noise")
    assert changed.models["born machine, 0.5 %"].generator.options["layers"] == 2
    assert changed.models["born machine, 1 %"] == before.models["born machine, 1 %"]
    assert list(changed.models) == list(before.models)
    assert changed.plain()["evaluation"]["backends"]["0.5 %"]["noise"]["readout"] == 0.2
