"""Learning from rankings as a `Stage`: a reward model, or a policy by DPO and its kin. The loop is that of pretraining."""

from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipeline.ranking_batches import RankingRows, RankingSource, in_batches, pack_rankings
from data_pipeline.rankings import PreparedRankings, RankingsConfig, TokenizedRanking
from lm import sharding
from lm.experiment import Experiment
from lm.model.attention import check_attention
from lm.model.transformer import Transformer
from lm.objectives.log_probs import token_log_probs
from lm.objectives.preference import PreferenceConfig, by_response, preference, ranking_loss, response_scores
from lm.preference_metrics import measured
from lm.stage import HostBatch, Stage, Start

HOST_ONLY = frozenset({"document_ids", "row"})


def preferences(config: Experiment, prepared: PreparedRankings, mesh: Mesh, start: Start | None) -> Stage:
    """The stage for prepared rankings. Raises `UserError` when the batch or the attention does not suit the mesh."""
    data, objective = config.data, config.objective
    assert isinstance(data, RankingsConfig)
    assert isinstance(objective, PreferenceConfig)
    check_attention(config.model, mesh.devices.flat[0].platform)
    rows = sharding.batch_rows(mesh, config.batch_size)
    row_length = data.row_length or config.model.context_length
    another = objective.loss == "prospect"
    train = pack_rankings(prepared.train, row_length, config.seed, another=another)
    held_out = pack_rankings(prepared.validation, row_length, 0, another=another)
    source = RankingSource(train, batch_size=config.batch_size, seed=config.seed, rows=rows)
    judge = Judge(config, objective, held_out, prepared.validation, mesh)

    def remember_start(model: Transformer) -> None:
        source.reference = reference_scores(model, train, config, mesh)
        judge.reference = reference_scores(model, held_out, config, mesh)

    return Stage(
        source=source,
        objective=partial(preference, config=objective),
        host_only=HOST_ONLY,
        evaluate=judge if prepared.validation else None,
        start=start,
        looks_first=True,
        remember_start=remember_start if objective.scores == "log_ratio" else None,
    )


@jax.jit
def _log_p(model: Transformer, batch: dict[str, jax.Array]) -> jax.Array:
    hidden, _ = model.hidden(batch["tokens"], batch["positions"], batch["segment_ids"])
    log_p, _ = token_log_probs(model, hidden, batch["labels"], 128)
    return sharding.constrain(by_response(log_p, batch), None, None)


def reference_scores(model: Transformer, packed: RankingRows, config: Experiment, mesh: Mesh) -> np.ndarray:
    """log p of each response by the reference, nats: float32 (number of rows, R). Once for a run, and not once a step."""
    found = np.zeros((len(packed), packed.slots), np.float32)
    size = config.batch_size // config.accumulate
    for batch in in_batches(packed, size, sharding.batch_rows(mesh, size)):
        arrays = {name: array for name, array in batch.items() if name not in HOST_ONLY}
        log_p = np.asarray(_log_p(model, sharding.put_batch(mesh, arrays, size)))
        first = int(batch["row"][0]) // size * size
        found[first : first + size] = log_p[: len(found) - first]
    return found


class Judge:
    """model -> how well it orders what was held out; `reference` as the source's."""

    def __init__(
        self,
        config: Experiment,
        objective: PreferenceConfig,
        packed: RankingRows,
        rankings: list[TokenizedRanking],
        mesh: Mesh,
    ) -> None:
        self._packed, self._rankings, self._mesh = packed, rankings, mesh
        self._size = config.batch_size // config.accumulate
        self.reference: np.ndarray | None = None

        @jax.jit
        def look(model: Transformer, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
            s = response_scores(model, batch, objective)
            loss, weight = ranking_loss(s, batch["rankings"], batch["ranks"], objective)
            return sharding.constrain(s, None, None), loss, weight

        self._look = look

    def __call__(self, model: Transformer) -> dict[str, float]:
        """The loss, and what `lm.preference_metrics.measured` says of the scores."""
        scores: list[np.ndarray] = []
        total = weight = 0.0
        for number, batch in enumerate(
            in_batches(self._packed, self._size, sharding.batch_rows(self._mesh, self._size))
        ):
            arrays: HostBatch = {name: array for name, array in batch.items() if name not in HOST_ONLY}
            if self.reference is not None:
                arrays["reference"] = self.reference[batch["row"]]
            s, loss, count = self._look(model, sharding.put_batch(self._mesh, arrays, self._size))
            total, weight = total + float(loss) * float(count), weight + float(count)
            rows = len(self._packed.members[number * self._size : (number + 1) * self._size])
            scores += list(np.asarray(s)[:rows])
        of_ranking: list[np.ndarray] = [np.zeros(0)] * len(self._rankings)
        for members, row in zip(self._packed.members, scores, strict=True):
            at = 0
            for which in members:
                count = len(self._rankings[which].tokens)
                of_ranking[which] = row[at : at + count]
                at += count + self._packed.another
        lengths = [np.array([mask.sum() for mask in each.trained]) for each in self._rankings]
        found = measured(of_ranking, [each.ranks for each in self._rankings], lengths)
        return {"loss": total / max(weight, 1.0), **found}
