from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from matplotlib.figure import Figure
from PIL import Image

import circuits.circuit
from experiments.report import circuit_drawings, write_report
from experiments.report.correlations import pearson
from experiments.report.distributions import bin_edges, histogram
from experiments.report.style import looks
from experiments.report.training import _curves
from qgen.data import DATASETS, Dataset, write_events
from qgen.models import DualPQC
from qgen.models.dual_pqc import dual_pqc_circuit
from qgen.random import new_generator
from qgen.registry import generator_class
from qgen.run import Run, load_run
from qgen.statefile import load_state, save_generator, save_state, write_atomically

CALORIMETER = {"kind": "calorimeter", "grid": [8], "max_events": 400}
IMAGES = {"kind": "calorimeter", "grid": [4, 4], "max_events": 400}
MUONS = {"kind": "muon", "n": 800}
TRAINED = {"objective": {"kind": "mmd"}, "training": {"steps": 20}}

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None
)


def put_json(path: Path, content: object) -> None:
    write_atomically(path, json.dumps(content).encode())


def make_run(
    folder: Path,
    dataset: dict,
    models: dict[str, dict],
    *,
    seeds: tuple[int, ...] = (0,),
    name: str = "toy",
    **status: str,
) -> Run:
    """A finished run with noisy truth as samples: what ``run_experiment`` leaves, without any training."""
    options = dict(dataset)
    events: Dataset = DATASETS[options.pop("kind")](**options)
    truth = events.test
    folder.mkdir(parents=True)
    config = {"name": name, "description": "For a test.", "dataset": dataset, "models": models, "seeds": list(seeds)}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    put_json(
        folder / "environment.json",
        {"python": "3.11", "packages": {"torch": "2.13"}, "data": {"events": len(events), "origin": "made up"}},
    )
    scores = {}
    for k, (model, section) in enumerate(models.items()):
        for seed in seeds:
            place = folder / f"seed-{seed}" / model
            place.mkdir(parents=True)
            noise = torch.rand(truth.samples.shape, generator=new_generator(100 * k + seed), dtype=torch.float64)
            write_events(place / "samples.h5", truth.with_samples(truth.samples * (0.9 + 0.2 * noise)))
            steps = range(10, 30, 10) if "objective" in section else ()
            history = [{"step": s, "loss": 1 / s, "validation": 2 / s + seed, "seconds": 0.1} for s in steps]
            training = {"status": "completed", "steps": 20, "best_step": 20, "seconds": 0.1, "history": history}
            put_json(place / "training.json", training)
            kind = section["kind"]
            cls = generator_class("copula" if kind == "gone" else kind)
            choices = {key: value for key, value in section.items() if key not in ("kind", "objective", "training")}
            save_generator(place / "generator.safetensors", cls.for_dataset(events, seed=seed, **choices))
        scores[model] = {
            "kind": section["kind"],
            "n_parameters": 10 + k,
            "train_seconds": 1.0,
            "sample_seconds": 0.1,
            "status": status.get(model, "completed"),
            "metrics": {
                metric: {"value": 0.06 + 0.1 * k, "uncertainty": 0.01, "floor": 0.05, "floor_uncertainty": 0.01}
                | ({"spread": 0.004} if len(seeds) > 1 else {})
                for metric in ("wasserstein/first", "wasserstein", "correlation")
            },
        }
    put_json(folder / "results.json", {"name": name, "seeds": list(seeds), "models": scores})
    return load_run(folder)


class Page(HTMLParser):
    """Elements of a page that the tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.words += data

    def pictures(self) -> list[np.ndarray]:
        prefix = "data:image/png;base64,"
        sources = [str(image["src"]).removeprefix(prefix) for image in self.images]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))) for source in sources]


def page_of(*runs: Run, at: Path) -> Page:
    return Page(write_report(runs, at / "report.html").read_text())


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but come out as one blank pixel, for tests of what stands around them."""
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, format="png")
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **options: file.write(stream.getvalue()))


@pytest.fixture(scope="module")
def profile_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    models = {
        "born machine": {"kind": "born_machine", "bits": 1, "layers": 1, **TRAINED},
        "flow": {"kind": "flow", "n_parameters": 600, **TRAINED},
        "copula": {"kind": "copula"},
    }
    return make_run(tmp_path_factory.mktemp("profile") / "run", CALORIMETER, models)


@pytest.fixture(scope="module")
def profile_file(profile_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([profile_run], tmp_path_factory.mktemp("page") / "report.html")


def test_everything_is_there_and_nothing_from_elsewhere(profile_file):
    text = profile_file.read_text()
    page = Page(text)
    for word in (
        "truth vs truth",
        "born machine",
        "0.060 ± 0.010",
        "pull +0.7",
        "wasserstein / first",
        "Distributions",
        "Calorimeter showers",
        "Correlations",
        "Training curves",
        "Circuits of the quantum models",
        "made up",
        "grid:",
        "torch",
    ):
        assert word in page.words, word
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import", text)
    for address in page.addresses:
        if address.startswith("#"):
            assert f'id="{address[1:]}"' in text
    assert len(text) < 5_000_000


def test_images_show_something(profile_file):
    page = Page(profile_file.read_text())
    pictures = page.pictures()
    assert len(pictures) == 6  # observables, profile, single showers, correlations, training, circuit
    for image, pixels in zip(page.images, pictures, strict=True):
        assert min(pixels.shape[:2]) > 100
        assert pixels[..., :3].std() > 5
        assert image["alt"]


def test_best_and_colours(profile_file):
    text = profile_file.read_text()
    cells = re.findall(r'<td class="(s\d(?: best)?)">([^<]*)', text)
    assert ("s0 best", "0.060 ± 0.010") in cells  # (0.06 - 0.05) / sqrt(2) 0.01 = 0.7 standard deviations
    assert ("s5", "0.260 ± 0.010") in cells  # 14.8


def test_images_and_several_seeds(tmp_path):
    models = {"gan": {"kind": "gan", "n_parameters": 600, **TRAINED}, "marginals": {"kind": "marginals"}}
    run = make_run(tmp_path / "run", IMAGES, models, seeds=(3, 4))
    page = page_of(run, at=tmp_path)
    assert "means over the seeds 3, 4" in " ".join(page.words.split())
    assert "spread 0.004" in page.words
    assert len(page.images) == 6  # observables, profiles, mean images, single showers, correlations, training


def test_muon_events_with_trivial_models_alone(tmp_path):
    run = make_run(tmp_path / "run", MUONS, {"histogram": {"kind": "histogram"}, "copula": {"kind": "copula"}})
    page = page_of(run, at=tmp_path)
    assert len(page.images) == 2  # observables, correlations
    assert "Training curves" not in page.words
    assert "Circuits" not in page.words
    assert "Fitted in closed form: histogram, copula" in page.words


def put_scores(run: Run, label: str, role: str, model: str, value: float, **changes: object) -> None:
    """Scores of a model on another backend, as re-scoring leaves them."""
    scores = run.results["models"][model]
    moved = {name: {**numbers, "value": value} for name, numbers in scores["metrics"].items()}
    distance = {"value": 0.3, "uncertainty": 0.004, "floor": 0.1, "floor_uncertainty": 0.003}
    facts = {"config": {"kind": "statevector", "memory_limit": 5}, "name": "toy", "role": role, "capabilities": {}}
    entry = {
        **scores,
        "metrics": moved,
        "distances": {"distance to exact": distance},
        "circuits": 6,
        "measured": 4321,
        "seeds": {str(seed): {"metrics": moved} for seed in run.seeds},
    } | changes
    place = run.folder / "backends" / label
    place.mkdir(parents=True)
    put_json(place / "results.json", {"name": label, "backend": facts, "models": {model: entry}})


def test_a_model_on_other_backends_stands_side_by_side(profile_run, profile_file, tmp_path):
    assert "On other backends" not in profile_file.read_text()
    shutil.copytree(profile_run.folder, tmp_path / "run")
    run = load_run(tmp_path / "run")
    put_scores(run, "torino", "noisy", "born machine", 0.16)
    put_scores(run, "corrected", "mitigated", "born machine", 0.11, status="seed 1 not scored yet")
    put_scores(run, "<b>ideal", "exact", "born machine", 0.06)
    path = write_report([run], tmp_path / "report.html")
    text = path.read_text()
    page = Page(text)
    section = html.unescape(text[text.index("On other backends") : text.index("Circuits of the quantum models")])
    places = [section.index(f'scope="row">{name}<') for name in ("statevector", "<b>ideal", "torino", "corrected")]
    assert places == sorted(places)
    for word in ("0.160 ± 0.010", "0.110 ± 0.010", "0.3000 ± 0.0040", "pull +40.0", "6 circuits, 4321 shots"):
        assert word in section
    assert "corrected: seed 1 not scored yet" in section
    assert "{kind: statevector, memory_limit: 5}" in section
    assert "<b>ideal" not in text
    assert len(page.images) == len(Page(profile_file.read_text()).images) + 1
    drawn = next(image for image in page.images if "on the backends" in str(image["alt"]))
    shown = page.pictures()[page.images.index(drawn)]
    colours = {tuple(int(value) for value in pixel[:3]) for pixel in shown.reshape(-1, shown.shape[-1])}
    for colour in ("3f90da", "bd1f01", "ffa90e"):  # exact, noisy, mitigated
        assert tuple(bytes.fromhex(colour)) in colours


def test_damaged_scores_on_other_backends_are_refused(profile_run, tmp_path):
    shutil.copytree(profile_run.folder, tmp_path / "run")
    run = load_run(tmp_path / "run")
    put_scores(run, "torino", "noisy", "born machine", 0.16, circuits=-1)
    with pytest.raises(ValueError, match=r"torino/results.json: models.born machine.circuits: .*found -1"):
        write_report([run], tmp_path / "report.html")


@pytest.mark.usefixtures("blank")
def test_several_runs_have_a_section_each(profile_run, tmp_path):
    other = make_run(tmp_path / "run", MUONS, {"copula": {"kind": "copula"}}, name="muons")
    text = write_report([profile_run, other], tmp_path / "both.html").read_text()
    assert text.count('<section class="run"') == 2
    assert '<a href="#run-1">toy</a>' in text
    assert '<a href="#run-2">muons</a>' in text
    anchors = re.findall(r' id="([^"]+)"', text)
    assert len(anchors) == len(set(anchors))


EVIL = '<script>alert(1)<_script> $x$ & "quoted" \''


def test_names_are_escaped(tmp_path):
    run = make_run(tmp_path / "run", MUONS, {EVIL: {"kind": "copula"}}, name="</title><img src=http://evil onerror=1>")
    path = write_report([run], tmp_path / "report.html")
    page = Page(path.read_text())
    assert "script" not in page.tags
    assert EVIL in page.words
    assert html.escape("</title><img src=http://evil onerror=1>", quote=False) in path.read_text()
    assert all(str(image["src"]).startswith("data:") for image in page.images)


@pytest.mark.usefixtures("blank")
def test_diverged_model_is_flagged_in_words(tmp_path):
    reason = "training diverged at step 12: the loss is nan; kept the state of step 10"
    models = {"flow": {"kind": "flow", "n_parameters": 600, **TRAINED}}
    run = make_run(tmp_path / "run", CALORIMETER, models, flow=reason)
    path = run.folder / "seed-0" / "flow" / "training.json"
    put_json(path, json.loads(path.read_text()) | {"status": reason, "history": [], "best_step": 0})
    page = page_of(run, at=tmp_path)
    assert f"flow: {reason}" in page.words


def test_both_circuits_of_a_dual_pqc_are_drawn_once(monkeypatch):
    monkeypatch.setattr(circuit_drawings, "MOST_GATES_AS_TEXT", 0)
    model = DualPQC(dual_pqc_circuit(1, 1)[0], dual_pqc_circuit(3, 1)[0], n_features=4)
    assert [one.role for one in circuit_drawings.circuits_of("m", model)] == ["pqc1", "pqc2"]


def test_only_losses_are_drawn_as_losses():
    record = {"loss": 0.1, "discriminator_loss": 1.3, "real_score": 0.7, "discriminator_accuracy": 0.5, "spread": 0.9}
    history = [{"step": step, **record, "validation": 0.2} for step in (10, 20)]
    upper, lower = Figure().subplots(2)
    _curves(upper, lower, [{"history": history, "best_step": 20}], "#000000")
    assert [line.get_ydata()[0] for line in upper.get_lines()] == [0.1, 1.3]


def test_eighteen_models_all_look_different():
    trained = {str(k): k % 5 != 4 for k in range(18)}
    assert len(set(looks(trained).values())) == 18


@pytest.mark.usefixtures("blank")
def test_kind_that_is_not_installed_is_said_and_the_rest_shown(tmp_path):
    run = make_run(tmp_path / "run", MUONS, {"ours": {"kind": "gone"}})
    path = run.folder / "seed-0" / "ours" / "generator.safetensors"
    state = load_state(path)
    state["spec"] = json.loads(json.dumps(state["spec"]).replace('"copula"', '"cupola"'))
    save_state(path, state)
    page = page_of(run, at=tmp_path)
    assert f"ours: {path}: generator kind 'cupola' is unknown" in page.words
    assert len(page.images) == 2


@pytest.mark.usefixtures("blank")
def test_circuit_as_text_without_the_extra(profile_run, tmp_path, monkeypatch):
    def missing(self):
        raise ImportError("drawing needs pylatexenc")

    monkeypatch.setattr(circuits.circuit.Circuit, "draw_mpl", missing)
    page = page_of(profile_run, at=tmp_path)
    assert "Shown as text: drawing needs pylatexenc" in page.words
    assert "RY(a" in page.words
    assert len(page.images) == 5


def test_no_figure_is_left_with_pyplot(profile_file):
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_unfinished_and_damaged_runs_are_refused(tmp_path):
    run = make_run(tmp_path / "run", MUONS, {"copula": {"kind": "copula"}})
    out = tmp_path / "report.html"
    results = run.folder / "results.json"
    content = json.loads(results.read_text())
    results.unlink()
    with pytest.raises(FileNotFoundError, match=r"not finished \(results.json is missing\)"):
        write_report([load_run(run.folder)], out)
    del content["models"]["copula"]["kind"]
    put_json(results, content)
    with pytest.raises(ValueError, match=r"results.json: models.copula.kind: field required"):
        write_report([load_run(run.folder)], out)
    with pytest.raises(ValueError, match="no run is given"):
        write_report([], out)
    with pytest.raises(ValueError, match="folder .* does not exist"):
        write_report([run], tmp_path / "nowhere" / "report.html")
    assert not out.exists()


def test_samples_of_other_columns_are_refused(tmp_path):
    run = make_run(tmp_path / "run", MUONS, {"copula": {"kind": "copula"}})
    samples = run.samples("copula")
    write_events(run.folder / "seed-0" / "copula" / "samples.h5", samples.select("pt"))
    with pytest.raises(
        ValueError, match=r"seed-0/copula: samples have columns pt; the run's data have energy, pt, eta"
    ):
        write_report([load_run(run.folder)], tmp_path / "report.html")


def test_collapsed_and_constant_models_are_drawn(tmp_path):
    deep = {"kind": "calorimeter", "grid": [3, 4, 4], "max_events": 400}
    run = make_run(tmp_path / "run", deep, {"zero": {"kind": "copula"}, "huge": {"kind": "copula"}})
    for model, factor in (("zero", 0.0), ("huge", 1e9)):
        samples = run.samples(model)
        changed = samples.with_samples(samples.samples * factor)
        write_events(run.folder / "seed-0" / model / "samples.h5", changed)
    assert len(page_of(load_run(run.folder), at=tmp_path).images) == 5


# the numbers behind the figures


def test_histogram_is_numpys_and_scaled():
    rng = np.random.default_rng(0)
    seeds = [rng.normal(size=500), rng.normal(size=500) + 3]
    edges = np.linspace(-4, 7, 12)
    contents, error = histogram(edges, seeds, 1000)
    counts = [np.histogram(one, edges)[0] * 2 for one in seeds]
    np.testing.assert_allclose(contents, np.mean(counts, axis=0))
    np.testing.assert_allclose(
        error, np.maximum(np.sqrt(np.mean([2 * c for c in counts], axis=0)), np.std(counts, 0, ddof=1))
    )


def test_bins_follow_truth_and_lattices():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=2000)
    edges = bin_edges(truth, [truth * 1e6])
    assert -5 < edges[0] < -2
    assert 2 < edges[-1] < 5
    assert np.histogram(truth, edges)[0].sum() > 0.99 * len(truth)
    pixels = rng.integers(0, 65, 5000) / 64
    edges = bin_edges(pixels, [pixels])
    steps = np.diff(edges) * 64
    np.testing.assert_allclose(steps, steps[0])
    assert steps[0] == pytest.approx(round(steps[0]))  # every bin holds equally many values
    assert len(bin_edges(np.full(10, 3.0), [np.full(10, 3.0)])) == 2


def test_pearson_is_numpys():
    table = np.random.default_rng(2).normal(size=(100, 4)) @ np.random.default_rng(3).normal(size=(4, 4))
    np.testing.assert_allclose(pearson(table), np.corrcoef(table.T), atol=1e-12)
    np.testing.assert_allclose(pearson(table * 1e150), np.corrcoef(table.T), atol=1e-12)


# in a browser


def chromium(*options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    fixed = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
    return subprocess.run(
        [CHROMIUM, *fixed, "--disable-dev-shm-usage", *options], capture_output=True, text=True, timeout=120, check=True
    )


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome is installed")


@needs_chromium
def test_in_a_browser_the_page_is_complete(profile_file, tmp_path):
    shot = tmp_path / "shot.png"
    done = chromium(
        f"--screenshot={shot}", "--window-size=1300,2500", "--enable-logging=stderr", "--v=0", profile_file.as_uri()
    )
    assert "CONSOLE" not in done.stderr
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape[:2] == (2500, 1300)
    for part in np.array_split(pixels, 5):
        assert part.std() > 10  # text or picture everywhere


@needs_chromium
def test_in_a_browser_every_image_has_a_size_and_the_table_its_rows(profile_file, tmp_path):
    """The page itself runs no script, so a copy of it measures."""
    text = profile_file.read_text()
    measure = """<script>onload = () => { document.body.dataset.measured = JSON.stringify({
      images: [...document.images].map(i => [i.naturalWidth, i.naturalHeight]),
      rows: [...document.querySelectorAll("table.scores tbody tr th")].map(h => h.firstChild.textContent.trim()),
      requests: performance.getEntriesByType("resource").map(r => r.name).filter(n => !n.startsWith("data:")),
      wide: document.documentElement.scrollWidth > innerWidth}); }</script>"""
    copy = tmp_path / "copy.html"
    copy.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', measure, text))
    dom = chromium("--dump-dom", "--window-size=1300,900", copy.as_uri()).stdout
    found = re.search(r'data-measured="([^"]*)"', dom)
    assert found is not None
    measured = json.loads(html.unescape(found.group(1)))
    assert len(measured["images"]) == 6
    assert all(width > 100 and height > 100 for width, height in measured["images"])
    assert measured["rows"] == ["truth vs truth", "born machine", "flow", "copula"]
    assert measured["requests"] == []
    assert measured["wide"] is False


@needs_chromium
def test_in_a_browser_a_name_cannot_run(tmp_path):
    run = make_run(tmp_path / "run", MUONS, {"<img src=x onerror=document.title='hacked'>": {"kind": "copula"}})
    page = write_report([run], tmp_path / "report.html")
    dom = chromium("--dump-dom", page.as_uri()).stdout
    assert "<title>toy</title>" in dom
