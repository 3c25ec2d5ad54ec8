"""Optuna as a sampler: it proposes values where earlier trials did well, and gives up those that do worse than the median.

The folder of the sweep is all that is kept. A study is built from it anew at every start, so the two cannot disagree.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import UserError
from launch.compare_runs import split_metric
from launch.sweep_folder import DONE, PRUNED, Result
from launch.sweep_trials import Base, Trial, build, typed_choices
from lm.metrics import read_json_lines
from lm.sweep import Choice, Distribution
from lm.sweep import Trial as Values

# Trials that end in full before any is compared with them, and given up; and the share of its steps that each makes in peace:
# while the learning rate warms up, the losses say little.
TRIALS_BEFORE_PRUNING = 4
SHARE_BEFORE_PRUNING = 0.25


class OptunaSampler:
    """A `Sampler` (see `sweep_run.py`) of at most `count` trials, `known` ones among them; the smaller metric is better."""

    def __init__(
        self,
        base: Base,
        space: Mapping[str, Distribution],
        *,
        root: Path,
        known: Sequence[Trial],
        results: Mapping[int, Result],
        count: int,
        seed: int,
        metric: str,
        keep: Callable[[list[Values]], None],
    ) -> None:
        """`results` are those of `known` trials that have ended; `keep` stores the values of all trials so far."""
        optuna = _optuna()
        self._states = optuna.trial.TrialState
        self._base, self._count, self._keep = base, count, keep
        split, self._key = split_metric(metric)
        self._prunes = split == "validation"
        self._space = {path: _as_optuna(optuna, base, path, distribution) for path, distribution in space.items()}
        self.trials = list(known)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # The seed moves with the trials there are: the same one would propose the first values again.
        sampler = optuna.samplers.TPESampler(seed=seed + len(known))
        pruner = optuna.pruners.MedianPruner(n_startup_trials=TRIALS_BEFORE_PRUNING)
        self._study = optuna.create_study(sampler=sampler, pruner=pruner)
        self._asked: dict[int, Any] = {}
        self._reported: dict[int, int] = {}
        for trial in known:
            self._recall(trial, results.get(trial.number), root / trial.name)

    def _recall(self, trial: Trial, result: Result | None, folder: Path) -> None:
        """Tell the new study of a trial that an earlier process asked for."""
        parameters = {path: _parameter(value) for path, value in trial.values.items()}
        if result is None:
            self._study.enqueue_trial(parameters)
            self._asked[trial.number] = self._study.ask(self._space)
            return
        seen = read_json_lines(folder / "evaluations.jsonl") if self._prunes else []
        self._study.add_trial(
            _optuna().trial.create_trial(
                params=parameters,
                distributions=self._space,
                state=self._state(result),
                value=result.metric if self._state(result) == self._states.COMPLETE else None,
                intermediate_values={record["step"]: record[self._key] for record in seen if self._key in record},
            )
        )

    def ask(self) -> Trial | None:
        """One more trial, whose values are stored before it starts."""
        if len(self.trials) >= self._count:
            return None
        asked = self._study.ask(self._space)
        # Not checked: values that make no sense together are a failed trial, as launch.train will say, and Optuna learns.
        (trial,) = build(self._base, [asked.params], first=len(self.trials), check=False)
        self.trials.append(trial)
        self._asked[trial.number] = asked
        self._keep([each.values for each in self.trials])
        return trial

    def should_prune(self, trial: Trial, evaluations: list[dict[str, Any]]) -> bool:
        """Report what is new, and ask whether the trial is worse than the median of the others at that step."""
        if not self._prunes:
            return False
        asked = self._asked[trial.number]
        for record in evaluations:
            if record["step"] > self._reported.get(trial.number, -1) and self._key in record:
                asked.report(record[self._key], record["step"])
                self._reported[trial.number] = record["step"]
        at = self._reported.get(trial.number, 0)
        return at >= SHARE_BEFORE_PRUNING * trial.experiment.steps and bool(asked.should_prune())

    def tell(self, trial: Trial, result: Result) -> None:
        """A trial has ended."""
        state = self._state(result)
        value = result.metric if state == self._states.COMPLETE else None
        self._study.tell(self._asked.pop(trial.number), value, state=state)

    def _state(self, result: Result) -> Any:
        if result.status == DONE and result.metric is not None:
            return self._states.COMPLETE
        return self._states.PRUNED if result.status == PRUNED else self._states.FAIL


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError('--sampler=optuna needs Optuna: pip install "trivium[sweep]"') from None
    return optuna


def _as_optuna(optuna: Any, base: Base, path: str, distribution: Distribution) -> Any:
    if isinstance(distribution, Choice):
        typed = typed_choices(base, path, distribution.values)
        return optuna.distributions.CategoricalDistribution([_parameter(value) for value in typed])
    if distribution.whole:
        return optuna.distributions.IntDistribution(int(distribution.low), int(distribution.high), log=distribution.log)
    return optuna.distributions.FloatDistribution(distribution.low, distribution.high, log=distribution.log)


def _parameter(value: Any) -> Any:
    """A value as Optuna takes it: tuples are no choices of its."""
    return repr(tuple(value)) if isinstance(value, tuple | list) else value
