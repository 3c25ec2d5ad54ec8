"""The source of reinforcement learning: the current model tries problems, and its tries are the next batches."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from data_pipeline.problem import Problem
from data_pipeline.tokenizer import Tokenizer
from data_pipeline.verifying import Verifiers
from lm import processes, sharding
from lm.assistant import Toolbox
from lm.inference.engine import Engine
from lm.inference.quantization import quantized
from lm.metrics import JsonLines
from lm.model.transformer import Transformer
from lm.objectives.policy_gradient import PolicyGradientConfig
from lm.practice import PracticeConfig
from lm.rl.batch import gather, pack
from lm.rl.credit import credit
from lm.rl.curriculum import Curriculum
from lm.rl.rollout import Rollout, Taste, collect, numbers_of
from lm.rl.scoring import score
from lm.stage import HostBatch


@dataclass
class Round:
    """Rollouts that are, or will be, trained on, and what was counted while they were made."""

    number: int
    rollouts: list[Rollout]
    counted: dict[str, float]
    old_log_probs: list[list[float]] | None = None  # the trainer's, before the first update on them
    used: int = 0  # updates made on them


class RolloutSource:
    """Batches of rollouts. Its state holds what is still to be trained on, so that a run goes on as if never stopped.

    `model` of `next` is the policy. With `behind`, a round is sampled by the policy of one round before.
    """

    def __init__(
        self,
        config: PracticeConfig,
        objective: PolicyGradientConfig,
        problems: Sequence[Problem],
        tokenizer: Tokenizer,
        verifiers: Verifiers,
        toolbox: Toolbox | None,
        mesh: Mesh,
        *,
        seed: int,
        row_length: int,
        batch_size: int,
        log: Path,
        teacher: Transformer | None = None,
        taste: Taste | None = None,
    ) -> None:
        self._config, self._objective, self._tokenizer = config, objective, tokenizer
        self._verifiers, self._toolbox, self._mesh = verifiers, toolbox, mesh
        self._sampling_mesh = mesh if not config.mesh.data else sharding.make_mesh(config.mesh)
        self._seed, self._row_length, self._batch_size = seed, row_length, batch_size
        self._taste = taste
        self._kl, self._kl_coefficient = 0.0, objective.kl  # nats a response, of the last batch; and what they cost now
        self._by_id = {problem.id: problem for problem in problems}
        self._curriculum = Curriculum(config.curriculum, problems, seed)
        self._reference: Transformer | None = None
        self._teacher = teacher
        self._step, self._made = 0, 0  # batches handed out; rounds sampled
        self._round: Round | None = None
        self._ahead: Future[Round] | None = None
        self._pool = ThreadPoolExecutor(1, "sampling")
        self._counted: dict[str, float] = {}
        self._same_reward: tuple[float, int] = (-1.0, 0)  # and for how many steps
        self._log_path = log
        self._log: JsonLines | None = None

    def remember_start(self, model: Transformer) -> None:
        """The model that KL is measured against."""
        self._reference = model

    def kl_of(self, rollouts: Sequence[Rollout]) -> float:
        """KL to the reference of other rollouts, nats a response."""
        assert self._reference is not None  # the config has asked for it
        batch, placed = pack(rollouts, self._row_length, self._batch_size)
        with jax.set_mesh(self._mesh):
            found, _ = score(self._reference, batch, self._mesh, self._batch_size, self._objective.chunk)
        return mean_kl(rollouts, gather(found, placed))

    def next(self, model: Callable[[], Transformer]) -> HostBatch:
        """This process's rows of the next batch."""
        policy = model()
        jax.block_until_ready(policy)  # so that the time of a training step is not taken for that of sampling
        if self._round is None or self._round.used == self._config.updates:
            self._round = self._ahead.result() if self._ahead else self._make(policy)
            self._ahead = None
            if self._config.behind:
                mine = jax.tree.map(jnp.copy, policy)  # the policy's arrays go with the step
                self._ahead = self._pool.submit(self._make, mine)
        batch = self._batch(policy, self._round)
        self._round.used += 1
        self._step += 1
        if self._round.used == 1:
            self._write(self._round)
            self._warn(self._round.counted)
        mine = sharding.batch_rows(self._mesh, len(batch["tokens"]))
        return {name: array[mine] for name, array in batch.items()}

    def enough(self) -> str:
        """Why the run must end here, or ""."""
        budget = self._config.kl_budget
        return (
            f"KL to the reference is {self._kl:.2f} nats a response, of a budget of {budget:g}"
            if 0 < budget <= self._kl
            else ""
        )

    def numbers(self) -> dict[str, float]:
        """What was counted while the last batch was made."""
        return self._counted

    def describe(self, batch: HostBatch) -> list[str]:
        """The problems of a batch."""
        assert self._round is not None  # it made the batch
        numbers = np.unique(batch["document_ids"])
        return list(dict.fromkeys(self._round.rollouts[i].problem for i in numbers[numbers >= 0]))

    def get_state(self) -> dict[str, Any]:
        """The position, and the rollouts that are still to be trained on."""
        rounds = [self._round] if self._round and self._round.used < self._config.updates else []
        rounds += [self._ahead.result()] if self._ahead else []
        return {
            "step": self._step,
            "made": self._made,
            "same_reward": self._same_reward,
            "kl": [self._kl, self._kl_coefficient],
            "curriculum": self._curriculum.get_state(),
            "rounds": [asdict(each) for each in rounds],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `get_state` gave."""
        self._step, self._made = state["step"], state["made"]
        self._same_reward = tuple(state["same_reward"])
        self._kl, self._kl_coefficient = state["kl"]
        self._curriculum.set_state(state["curriculum"])
        rounds = [
            Round(**{**each, "rollouts": [Rollout(**rollout) for rollout in each["rollouts"]]})
            for each in state["rounds"]
        ]
        self._round = rounds.pop(0) if rounds and rounds[0].used else None
        self._ahead = None
        for each in rounds:
            self._ahead = Future()
            self._ahead.set_result(each)

    def close(self) -> None:
        """Release threads, processes and files."""
        self._pool.shutdown()
        self._verifiers.close()
        if self._log:
            self._log.close()

    # Sampling

    def _make(self, policy: Transformer) -> Round:
        """The next round, sampled by `policy`."""
        config, number = self._config, self._made
        rollouts: list[Rollout] = []
        counted = {"sampling_seconds": 0.0, "verifying_seconds": 0.0}
        total = tried = 0
        with jax.set_mesh(self._sampling_mesh):
            engine = self._engine(policy)
            for attempt in range(config.refill + 1):
                missing = config.prompts - len(rollouts) // config.samples
                problems = self._curriculum.choose(missing, f"{number}/{attempt}")
                found = collect(
                    engine,
                    self._tokenizer,
                    problems,
                    self._verifiers,
                    config.reward,
                    samples=config.samples,
                    tokens=config.tokens,
                    temperature=config.temperature,
                    toolbox=self._toolbox,
                    seed=self._seed,
                    draw=f"{number}/{attempt}",
                    zero_cut_off=config.cut_off == "zero",
                    taste=self._taste,
                    chances=config.chances,
                )
                counted["sampling_seconds"] += found.sampling_seconds
                counted["verifying_seconds"] += found.verifying_seconds
                total += sum(each.length for each in found.rollouts)
                groups = [found.rollouts[i : i + config.samples] for i in range(0, len(found.rollouts), config.samples)]
                tried += len(groups)
                self._learn(groups)
                if attempt == 0:
                    counted |= numbers_of(found.rollouts, config.samples, by_taste=self._taste is not None)
                if config.refill:
                    groups = [group for group in groups if len({each.reward for each in group}) > 1]
                rollouts += [each for group in groups for each in group]
                if len(rollouts) == config.prompts * config.samples or not config.refill:
                    break
        self._made += 1
        counted["sampled_tokens_per_second"] = total / max(counted["sampling_seconds"], 1e-9)
        counted["level"] = float(self._curriculum.open)
        if config.refill:
            counted["groups_tried"] = float(tried)
        if not rollouts:  # no group has any signal, however often it was tried: nothing to learn, and no reason to stop
            rollouts = found.rollouts
        return Round(number, rollouts, counted)

    def _engine(self, policy: Transformer) -> Engine:
        if self._sampling_mesh is not self._mesh:
            policy = jax.device_put(policy, sharding.tree_shardings(self._sampling_mesh, policy))
        if self._config.sampler == "bfloat16":
            policy = in_bfloat16(policy)
        elif self._config.sampler:
            policy = quantized(policy, self._config.sampler)
        return Engine(policy, slots=self._config.slots, symbols=self._tokenizer.vocab_size, steady=True)

    def _learn(self, groups: Sequence[Sequence[Rollout]]) -> None:
        outcomes = [
            (self._by_id[group[0].problem], float(np.mean([each.score >= 1 for each in group]))) for group in groups
        ]
        self._curriculum.learn(outcomes)

    # Training

    def _batch(self, policy: Transformer, round: Round) -> HostBatch:
        """The rollouts of a round with all that the objective needs, of all processes."""
        rollouts, config = round.rollouts, self._config
        batch, placed = pack(rollouts, self._row_length, self._batch_size)

        def scored(model: Transformer, *, values: bool = False) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
            found = score(model, batch, self._mesh, self._batch_size, self._objective.chunk, values=values)
            return gather(found[0], placed), None if found[1] is None else gather(found[1], placed)

        with jax.set_mesh(self._mesh):
            values = None
            learns_values = self._objective.advantage == "gae"
            keeps_old = config.updates > 1 or self._teacher is not None
            if learns_values or (keeps_old and round.old_log_probs is None):
                old, values = scored(policy, values=learns_values)
                if keeps_old and round.old_log_probs is None:
                    round.old_log_probs = [each.tolist() for each in old]
            reference = scored(self._reference)[0] if self._reference is not None else None
            teacher = scored(self._teacher)[0] if self._teacher is not None else None
        credited = credit(
            batch,
            placed,
            rollouts,
            config,
            self._objective,
            kl_coefficient=self._kl_coefficient,
            old=round.old_log_probs,
            reference=reference,
            values=values,
            teacher=teacher,
        )
        self._counted = dict(round.counted)
        if reference is not None:
            self._kl = mean_kl(rollouts, reference)
            self._counted |= {"kl": self._kl, "kl_coefficient": self._kl_coefficient}
            self._kl_coefficient = controlled(self._kl_coefficient, self._kl, config.kl_target)
        return {**batch, **credited}

    # What is told

    def _write(self, round: Round) -> None:
        """Keep rollouts that are worth reading."""
        if not processes.is_first():
            return
        if self._log is None:
            self._log = JsonLines(self._log_path, self._step - 1)
        for why, rollout in remarkable(round.rollouts):
            told = {name: getattr(rollout, name) for name in ("text", "reward", "score", "reason", "length")}
            asked = self._by_id[rollout.problem].turns[-1].text
            self._log.write({"step": self._step, "why": why, "problem": rollout.problem, "prompt": asked, **told})

    def _warn(self, counted: dict[str, float]) -> None:
        """Say so, loudly, when nothing can be learnt any more, or a verifier does not work."""
        if not processes.is_first():
            return
        reward, (before, steps) = counted["reward"], self._same_reward
        self._same_reward = (reward, steps + 1 if reward == before else 1)
        if self._same_reward[1] % self._config.constant == 0 and counted["no_signal"] == 1:
            print(
                f"WARNING: for {self._same_reward[1]} rounds every rollout had the reward {reward:g}: there is nothing to "
                "learn from. Look at rollouts.jsonl; choose easier or harder problems, or another reward",
                flush=True,
            )
        if counted["verifier_failed"] > 0:
            print(
                f"  the verifier failed on {counted['verifier_failed']:.1%} of the rollouts (reward 0; see rollouts.jsonl)",
                flush=True,
            )


def mean_kl(rollouts: Sequence[Rollout], reference: Sequence[Any]) -> float:
    """KL to the reference, nats a response: the mean of log p as it was drawn, less the reference's, summed over drawn tokens."""
    return float(
        np.mean(
            [
                np.sum(np.subtract(each.sampler_log_probs, theirs)[np.array(each.drawn, bool)])
                for each, theirs in zip(rollouts, reference, strict=True)
            ]
        )
    )


def controlled(coefficient: float, kl: float, target: float) -> float:
    """The next coefficient: a tenth of how far KL is from its target, at most a fifth (arXiv 1909.08593). Fixed without one."""
    return coefficient * (1 + 0.1 * float(np.clip(kl / target - 1, -0.2, 0.2))) if target else coefficient


def remarkable(rollouts: Sequence[Rollout]) -> list[tuple[str, Rollout]]:
    """At most one of each: the best, the worst, and those on which something went wrong."""
    kinds: dict[str, list[Rollout]] = {
        "best": sorted(rollouts, key=lambda each: each.reward, reverse=True),
        "worst": sorted(rollouts, key=lambda each: each.reward),
        "longest": sorted(rollouts, key=lambda each: each.length, reverse=True),
        "verifier failed": [each for each in rollouts if each.failed],
        "broken": [each for each in rollouts if not each.well_formed and not each.cut_off],
        "right, but cut off": [each for each in rollouts if each.cut_off and each.score >= 1],
    }
    return [(why, found[0]) for why, found in kinds.items() if found]


def in_bfloat16(model: Transformer) -> Transformer:
    """The model, computing in bfloat16."""
    model = copy.copy(model)
    model.config = dataclasses.replace(model.config, compute_dtype="bfloat16")
    return model
