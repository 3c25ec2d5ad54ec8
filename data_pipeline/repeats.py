"""Some documents more often than others, chosen by lot: so that what repetition does can be told from what a text is.

A view over tokenized documents: packing, shuffling and resuming work on it as on any others. A copy of a document is a
document of its own to them, so the copies are shuffled apart.
"""

import hashlib

import numpy as np
from tqdm import tqdm

from data_pipeline.errors import UserError
from data_pipeline.packing import Record, Records


def check_repeats(repeats: tuple[int, ...]) -> None:
    """Raise `UserError` for numbers that make no sense. An empty tuple is fine: every document once."""
    if any(times < 0 for times in repeats):
        raise UserError(f"data.repeats={repeats}: a group is read 0 times an epoch or more")
    if repeats and not any(repeats):
        raise UserError(f"data.repeats={repeats} leaves nothing to learn from: let one number at least be above 0")


def deal(documents: Records, groups: int) -> list[np.ndarray]:
    """The documents of each group, int64 (documents of the group,), whose sizes differ by one at most.

    Documents are dealt in turn, in the order of a hash of their ids: the same on every machine, with every seed and every
    tokenizer. (The folder that a file lies in is left out of it; documents of one name keep their order.) Each group is in
    that order too, so its beginning is a fair sample of it.
    """
    shown = tqdm(range(len(documents)), desc="dealing into groups", unit=" documents", delay=2, leave=False)
    keys = [_digest(documents[index].id.rpartition("/")[2]) for index in shown]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    return [order[group::groups] for group in range(groups)]


class RepeatedDocuments:
    """`documents`, those of group g of `deal(documents, len(repeats))` coming `repeats[g]` times each.

    `documents_seen` is int64 (len(self),), the index in `documents` of each copy; all copies of a document are the same.
    """

    def __init__(self, documents: Records, repeats: tuple[int, ...]) -> None:
        self._documents = documents
        times = np.zeros(len(documents), np.int64)
        for group, often in zip(deal(documents, len(repeats)), repeats, strict=True):
            times[group] = often
        self.documents_seen = np.repeat(np.arange(len(documents)), times)
        self.lengths = documents.lengths[self.documents_seen]

    def __len__(self) -> int:
        return len(self.documents_seen)

    def __getitem__(self, index: int) -> Record:
        """A copy of a document, int32 (lengths[index],) tokens."""
        return self._documents[int(self.documents_seen[index])]


def repeated(documents: Records, repeats: tuple[int, ...], name: str) -> Records:
    """What an epoch reads of `documents`; `documents` themselves where `repeats` is empty.

    Raises `UserError` when the source called `name` has fewer documents than there are groups.
    """
    if not repeats:
        return documents
    if len(documents) < len(repeats):
        raise UserError(
            f"{name} has {len(documents):,} documents to learn from and data.repeats has {len(repeats)} groups: "
            "name fewer groups, or give more documents"
        )
    return RepeatedDocuments(documents, repeats)


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
