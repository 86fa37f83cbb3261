"""The folder of a search: what is searched, and where its trials, their locks and their checkpoints are."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, ValidationError

from experiments.claim import held
from experiments.config import load_config
from experiments.experiment import Experiment
from experiments.run import load_dataset
from experiments.space import Space, at, default_space, read_space
from experiments.trained import as_json
from experiments.tune.judge import Judge
from experiments.tune.storage import JOURNAL, Storage, storage_at
from experiments.tune.trials import TRIALS, Trials
from qgen.files import write_atomically
from qgen.run import CONFIG, read_json

__all__ = ["BEST", "SETTINGS", "Search", "laid_down", "space_of"]

BEST, SETTINGS = "best.yaml", "tuning.json"


class _Settings(BaseModel):
    """What ``tuning.json`` holds."""

    model_config = ConfigDict(extra="forbid")
    name: str
    models: list[str]
    trials: Annotated[int, Ge(1)]
    seconds: float | None
    metric: str
    seed: int
    prune: bool
    data: str
    storage: str | None


@dataclass(frozen=True)
class Search:
    """A search and its folder.

    Args:
        folder: where it is.
        experiment: data and models.
        name: of the search in its storage, which may hold others.
        models: that are searched.
        trials: of each.
        seconds: processor time of each training; None for its own steps.
        metric: by which trials are judged.
        seed: of proposals and trainings.
        prune: whether trials may be ended early.
        data: checksum of the events.
        storage: of the trials, as far as it may be shown; None for the journal in the folder.
    """

    folder: Path
    experiment: Experiment
    name: str
    models: list[str]
    trials: int
    seconds: float | None
    metric: str
    seed: int
    prune: bool
    data: str
    storage: str | None

    @classmethod
    def read(cls, folder: Path) -> Search:
        """The search that is in a folder.

        Raises:
            ValueError: a file of it is damaged, or of an earlier version.
        """
        path = folder / SETTINGS
        try:
            settings = _Settings.model_validate(read_json(path), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "all of it"
            raise ValueError(
                f"{path}: damaged, or of an earlier version of the lab ({where}: {first['msg'].lower()})"
            ) from error
        return cls(folder=folder, experiment=load_config(folder), **settings.model_dump())

    def settings(self) -> dict[str, Any]:
        """What stands in ``tuning.json``."""
        return {key: value for key, value in asdict(self).items() if key not in ("folder", "experiment")}

    def judge(self) -> Judge:
        """Who judges the trials."""
        return Judge.of(load_dataset(self.experiment), self.metric, self.seed)

    def space(self, model: str) -> Space:
        """What is varied of a model."""
        return space_of(self.experiment, model)

    def first(self, model: str) -> dict[str, Any]:
        """The parameters of the model as it stands; none if the space does not hold them."""
        space, section = self.space(model), self.experiment.models[model].plain()
        own = {path: at(section, path) for path in space}
        return own if all(own[path] in values for path, values in space.items()) else {}

    @property
    def lock(self) -> Path:
        """Held by who lays down the search, proposes a trial, or writes a table."""
        return self.folder / ".lock"

    def lock_of(self, model: str, number: int) -> Path:
        """Held by who is at a trial, and gone when it has ended."""
        return self.folder / model / f".trial-{number}.lock"

    def work_of(self, model: str, number: int) -> Path:
        """The folder of a training that has not ended."""
        return self.folder / model / f".trial-{number}"

    def table_of(self, model: str) -> Path:
        """The trials that have ended, for people to read."""
        return self.folder / model / TRIALS

    def clean(self, model: str, number: int) -> None:
        """Remove what a trial that has ended does not need; call it with the trial locked."""
        if (work := self.work_of(model, number)).exists():
            shutil.rmtree(work)
        self.lock_of(model, number).unlink(missing_ok=True)


def space_of(experiment: Experiment, name: str) -> Space:
    """What is varied of a model: what its section says, or the space that comes with the lab.

    Raises:
        ValueError: the section is wrong.
    """
    model = experiment.models[name]
    if model.tune is not None:
        return read_space(model.tune, f"models.{name}.tune")
    objective = model.objective.kind if model.objective is not None else ""
    space = default_space(model.generator.kind, objective)
    if model.generator.options.get("n_parameters") is not None:
        return {path: values for path, values in space.items() if "." in path}
    return space


def laid_down(
    folder: Path, experiment: Experiment, asked: dict[str, Any], storage: str | None, resume: bool
) -> tuple[Search, Storage]:
    """Write a new search into its folder, or see that the folder holds this very one.

    Args:
        folder: of the search, made if it is not there.
        experiment: data and models.
        asked: the other settings, but for name and storage.
        storage: of the trials, as the user names it; None for the journal in the folder.
        resume: whether the search may be there.

    Returns:
        The search, and its storage with what is not to be shown.

    Raises:
        FileExistsError: the folder holds something, and ``resume`` is false.
        ValueError: it holds another search, or the storage does not hold this one.
        OSError: folder or storage cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{folder}: a file is in the way; the name of a folder is needed") from error
    with held(folder / ".lock", wait=True):
        if (folder / SETTINGS).exists():
            if not resume:
                raise FileExistsError(
                    f"{folder}: holds a search; go on with it by --resume, or choose another with --out"
                )
            search, place = _found(folder, experiment, asked, storage)
            with place.open() as opened:
                for model in search.models:
                    Trials(opened, search.name, model)
        else:
            place = storage_at(storage, folder)
            if others := sorted(p.name for p in folder.iterdir() if not _is_first(p, experiment, place)):
                raise FileExistsError(
                    f"{folder}: holds {others[0]!r} but no {SETTINGS}; choose another folder with --out"
                )
            name = f"{experiment.name}-{uuid.uuid4().hex[:12]}"
            search = Search(folder, experiment, name, **asked, storage=None if storage is None else place.shown)
            with place.open() as opened:
                for model in search.models:
                    Trials.made(opened, name, model)
                    (folder / model).mkdir(exist_ok=True)
            write_atomically(folder / CONFIG, experiment.to_yaml().encode())
        write_atomically(folder / SETTINGS, as_json(search.settings()))
    return search, place


def _is_first(path: Path, experiment: Experiment, place: Storage) -> bool:
    """Whether something in a folder is what a search makes first: it may have been killed while it did so."""
    _, mark, rest = place.address.partition(":///")
    file = rest.partition("?")[0] if mark else place.address
    if path.name.startswith(".") or path.name == JOURNAL or str(path.absolute()) in (file, f"{file}-journal"):
        return True
    if path.name == CONFIG:
        return path.is_file() and path.read_bytes() == experiment.to_yaml().encode()
    return path.name in experiment.models and path.is_dir() and not any(path.iterdir())


def _found(folder: Path, experiment: Experiment, asked: dict[str, Any], storage: str | None) -> tuple[Search, Storage]:
    """The search that is in the folder, with the number of trials that is asked for now."""
    before = Search.read(folder)
    if before.experiment != experiment:
        raise ValueError(f"{folder / CONFIG}: is of another experiment; choose another folder with --out")
    for key, value in asked.items():
        if key != "trials" and getattr(before, key) != value:
            raise ValueError(f"{folder / SETTINGS}: the search has {key} {getattr(before, key)!r}, now it is {value!r}")
    # an address in a file may be a stranger's, and lacks what is secret: only what the user names is opened
    if storage is None and before.storage is not None:
        raise ValueError(
            f"{folder}: its trials are in {before.storage}; name it again, by --storage or the variable QGEN_STORAGE"
        )
    place = storage_at(storage, folder)
    if storage is not None and place.shown != before.storage:
        has = before.storage or JOURNAL
        raise ValueError(f"{folder / SETTINGS}: the search has storage {has!r}, now it is {place.shown!r}")
    return Search(folder, experiment, before.name, **asked, storage=before.storage), place
