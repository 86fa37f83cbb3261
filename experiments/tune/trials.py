"""Trials of one model: what was tried, what came of it, and what the search proposes next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.space import Range, Space
from experiments.tune.storage import load_optuna
from qgen.files import write_atomically
from qgen.random import derive_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = ["PRUNED", "TRIALS", "Trial", "Trials", "best_of"]

TRIALS = "trials.jsonl"
PRUNED = "pruned"
RESULT, PARAMETERS = "result", "parameters"

RANDOM_TRIALS = 8
"""Trials of a model before the estimator proposes."""


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Args:
        number: of the trial, from 0.
        parameters: what was varied, by its place in the model's section; none for a configuration as it stands that has
            settings outside of the space.
        score: distance of the metric from its value for a perfect generator; None if there is none.
        uncertainty: of it.
        steps: of the training.
        seconds: wall time of the whole trial; of one that was interrupted, since it was taken up again.
        cpu_seconds: processor time of the training.
        n_parameters: of the model.
        status: ``completed``, or what went wrong, or ``pruned`` and at which step.
    """

    number: int
    parameters: dict[str, Any]
    score: float | None
    uncertainty: float | None
    steps: int
    seconds: float
    cpu_seconds: float
    n_parameters: int
    status: str

    @property
    def pruned(self) -> bool:
        """Whether it was ended early, as worse than others at the same step."""
        return self.status.startswith(PRUNED)

    @property
    def failed(self) -> bool:
        """Whether its settings cannot work."""
        return self.score is None and not self.pruned


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial of the lowest score; None if none has one."""
    return min((t for t in trials if t.score is not None), key=lambda t: t.score or 0.0, default=None)


class Trials:
    """The trials of a model, in a storage of optuna; each has its parameters from the moment it is there.

    Args:
        storage: where they are.
        search: the name of the search.
        model: of which they are trials.

    Raises:
        ValueError: the storage does not hold them.
    """

    def __init__(self, storage: BaseStorage, search: str, model: str) -> None:
        self.storage = storage
        self.model = model
        self.study = f"{search}/{model}"
        try:
            self._id = storage.get_study_id_from_name(self.study)
        except KeyError:
            raise ValueError(f"the storage holds no study {self.study!r}; it is not the one of this search") from None

    @classmethod
    def made(cls, storage: BaseStorage, search: str, model: str) -> Trials:
        """The trials, none yet if they are new."""
        load_optuna().create_study(storage=storage, study_name=f"{search}/{model}", load_if_exists=True)
        return cls(storage, search, model)

    def frozen(self) -> list[FrozenTrial]:
        """All trials as optuna has them, by their numbers."""
        return self.storage.get_all_trials(self._id, deepcopy=False)

    def finished(self) -> dict[int, Trial]:
        """What came of those that have ended, by their numbers.

        Raises:
            ValueError: another program has ended one.
        """
        return {trial.number: self._result(trial) for trial in self.frozen() if trial.state.is_finished()}

    def _result(self, trial: FrozenTrial) -> Trial:
        try:
            return Trial(**trial.user_attrs[RESULT])
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"study {self.study}: trial {trial.number} was ended by another program, without a result"
            ) from error

    def parameters(self, number: int) -> dict[str, Any]:
        """What a trial varies, by its place in the model's section."""
        return dict(self.frozen()[number].user_attrs[PARAMETERS])

    def propose(self, space: Space, first: Mapping[str, Any], number: int, seed: int) -> None:
        """Add trials up to a number. Call it with the search locked: two that propose at once would be one too many.

        A proposal follows from the trials that have ended; those that have not count as bad ones, so that workers do
        not try the same at the same time.

        Args:
            space: what is varied.
            first: the parameters of trial 0.
            number: of the last trial that is to be there.
            seed: with the number of a trial, it fixes its proposal.
        """
        optuna = load_optuna()
        for new in range(len(self.frozen()), number + 1):
            of_trial = derive_seed(seed, self.model, "proposal", new) % 2**32
            parameters = dict(first) if new == 0 else self._proposal(space, of_trial)
            distributions, params = {}, {}
            if parameters:
                distributions = _distributions(space)
                params = {path: _place_of(parameters[path], values) for path, values in space.items()}
            self.storage.create_new_trial(
                self._id,
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.RUNNING,
                    params=params,
                    distributions=distributions,
                    user_attrs={PARAMETERS: parameters},
                ),
            )

    def _proposal(self, space: Space, seed: int) -> dict[str, Any]:
        """What the estimator makes of the trials so far, in a study of its own that holds nothing else."""
        optuna = load_optuna()
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS, constant_liar=True)
        study = optuna.create_study(sampler=sampler)
        for trial in self.frozen():
            if trial.params:  # a configuration outside of the space is none of the search's business
                study.add_trial(trial)
        asked = study.ask(_distributions(space))
        return {
            path: asked.params[path] if isinstance(values, Range) else values[asked.params[path]]
            for path, values in space.items()
        }

    def report(self, number: int, step: int, score: float) -> None:
        """Put down the score of a trial at a step."""
        self.storage.set_trial_intermediate_value(self._id_of(number), step, score)

    def end(self, trial: Trial) -> None:
        """Put down what came of a trial."""
        state = load_optuna().trial.TrialState
        place = self._id_of(trial.number)
        self.storage.set_trial_user_attr(place, RESULT, asdict(trial))
        if trial.score is not None:
            self.storage.set_trial_state_values(place, state.COMPLETE, [trial.score])
        else:
            self.storage.set_trial_state_values(place, state.PRUNED if trial.pruned else state.FAIL)

    def _id_of(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def write(self, path: Path) -> None:
        """The trials that have ended as a table, a line of JSON for each. Call it with the search locked."""
        lines = (json.dumps(asdict(trial)) for trial in self.finished().values())
        write_atomically(path, "".join(line + "\n" for line in lines).encode())


def _distributions(space: Space) -> dict[str, Any]:
    """The space as optuna knows it: values to choose from by their places."""
    kinds = load_optuna().distributions
    found: dict[str, Any] = {}
    for path, values in space.items():
        if not isinstance(values, Range):
            found[path] = kinds.CategoricalDistribution(range(len(values)))
        elif values.whole:
            found[path] = kinds.IntDistribution(int(values.low), int(values.high), values.log)
        else:
            found[path] = kinds.FloatDistribution(values.low, values.high, values.log)
    return found


def _place_of(value: Any, values: Range | list[Any]) -> Any:
    return value if isinstance(values, Range) else values.index(value)
