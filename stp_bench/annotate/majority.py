"""What the majority of independent votes decides, what it leaves open, and what an expert says of that.

A label needs a strict majority among at least ``min_votes`` valid votes; "not sure" abstains. A tie is never broken
silently: it stays open until somebody who has not voted on that video decides. Axes: V videos, K attributes, and the
three votes yes, no, abstain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stp_bench.annotate._project import ADJUDICATION, ROUND
from stp_bench.annotate.votes import ABSTAIN, NO, YES

MIN_VOTES = 4
"""The paper's "more than three"."""
SOURCES = ("majority", "adjudicated", "unresolved")
QUEUE = ("video_id", "attribute", "reason", "n_yes", "n_no", "n_abstain")
REASONS: Mapping[str, str] = {
    "tied": "as many yes as no",
    "abstained": "everybody is unsure",
    "short": "too few votes count",
    "missing": "nobody voted",
}
"""Why a label is left open."""

_VOTES = (YES, NO, ABSTAIN)


@dataclass(frozen=True, eq=False, kw_only=True)
class Decision:
    """A label table with its votes, and the rows that need somebody's attention."""

    videos: tuple[str, ...]
    attributes: tuple[str, ...]
    label_VK: NDArray[np.int8]
    """1, 0, or -1 where nothing is decided."""
    count_VK3: NDArray[np.int64]
    """Independent votes: yes, no, abstain."""
    source_VK: NDArray[np.int8]
    """Index into `SOURCES`."""
    min_votes: int
    needless: int
    """Adjudications of what the majority had decided: not counted."""
    by_voters: int
    """Adjudications by people who had voted on the video: not counted."""
    strange: int
    """Votes on other videos or attributes: not counted."""

    @property
    def margin_VK(self) -> NDArray[np.int64]:
        """How many votes one side is ahead of the other."""
        margin_VK: NDArray[np.int64] = np.abs(self.count_VK3[..., 0] - self.count_VK3[..., 1])
        return margin_VK

    def vote_columns(self) -> dict[str, list[Any]]:
        """The columns of votes that stand beside the labels, in their order."""
        columns: dict[str, list[Any]] = {}
        margin_VK = self.margin_VK
        for k, name in enumerate(self.attributes):
            for i, kind in enumerate(("n_yes", "n_no", "n_abstain")):
                columns[f"{kind}_{name}"] = self.count_VK3[:, k, i].tolist()
            columns[f"margin_{name}"] = margin_VK[:, k].tolist()
            columns[f"source_{name}"] = [SOURCES[i] for i in self.source_VK[:, k].tolist()]
        return columns

    def queue(self) -> pd.DataFrame:
        """What is open, for an expert: `QUEUE`."""
        valid_VK = self.count_VK3[..., :2].sum(axis=-1)
        total_VK = self.count_VK3.sum(axis=-1)
        conditions = [total_VK == 0, valid_VK == 0, valid_VK < self.min_votes]
        reason_VK = np.select(conditions, ["missing", "abstained", "short"], "tied")
        return self._rows(self.source_VK == SOURCES.index("unresolved"), reason_VK)

    def close(self) -> pd.DataFrame:
        """What one vote decided, for whoever wants to look again: `QUEUE`, with the reason ``close``."""
        chosen_VK = (self.source_VK == SOURCES.index("majority")) & (self.margin_VK == 1)
        return self._rows(chosen_VK, np.full(chosen_VK.shape, "close"))

    def sources(self) -> dict[str, dict[str, int]]:
        """Attribute to source of its labels to their number."""
        return {
            name: dict(zip(SOURCES, np.bincount(self.source_VK[:, k], minlength=3).tolist(), strict=True))
            for k, name in enumerate(self.attributes)
        }

    def _rows(self, chosen_VK: NDArray[np.bool_], reason_VK: NDArray[Any]) -> pd.DataFrame:
        v, k = np.nonzero(chosen_VK)
        counts = {name: self.count_VK3[v, k, i] for i, name in enumerate(QUEUE[3:])}
        names = {"video_id": np.array(self.videos, dtype=object)[v], "attribute": np.array(self.attributes, object)[k]}
        return pd.DataFrame(names | {"reason": reason_VK[v, k].astype(object)} | counts, columns=list(QUEUE))


def decide(
    votes: pd.DataFrame, *, videos: Sequence[str], attributes: Sequence[str], min_votes: int = MIN_VOTES
) -> Decision:
    """Count votes and decide.

    Args:
        votes: as `stp_bench.annotate.votes` writes them, of any rounds.
        videos: every video of the round, voted on or not.
        min_votes: yes and no together that a majority needs.
    """
    videos, attributes = tuple(sorted(videos)), tuple(attributes)
    v, k, vote = (
        pd.Index(names).get_indexer(pd.Index(votes[column]))
        for names, column in ((videos, "video_id"), (attributes, "attribute"), (_VOTES, "vote"))
    )
    known = (v >= 0) & (k >= 0)
    independent = known & (votes["round"] == ROUND).to_numpy()
    shape = (len(videos), len(attributes), len(_VOTES))
    count_VK3 = _counted(v[independent], k[independent], vote[independent], shape)
    label_VK = _majority(count_VK3, min_votes)
    source_VK = np.where(label_VK >= 0, 0, 2).astype(np.int8)

    second = known & (votes["round"] == ADJUDICATION).to_numpy()
    pairs = pd.MultiIndex.from_arrays([votes["video_id"], votes["annotator"]])
    voters = second & pairs.isin(pairs[independent])
    needless = second & ~voters & (label_VK[v, k] >= 0)
    counted = second & ~voters & ~needless
    expert_VK = _majority(_counted(v[counted], k[counted], vote[counted], shape), 1)
    settled_VK = (label_VK < 0) & (expert_VK >= 0)
    return Decision(
        videos=videos,
        attributes=attributes,
        label_VK=np.where(settled_VK, expert_VK, label_VK),
        count_VK3=count_VK3,
        source_VK=np.where(settled_VK, 1, source_VK).astype(np.int8),
        min_votes=min_votes,
        needless=int(needless.sum()),
        by_voters=int(voters.sum()),
        strange=int((~known).sum()),
    )


def _counted(
    v: NDArray[np.intp], k: NDArray[np.intp], vote: NDArray[np.intp], shape: tuple[int, int, int]
) -> NDArray[np.int64]:
    flat = np.ravel_multi_index((v, k, vote), shape)
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)


def _majority(count_VK3: NDArray[np.int64], min_votes: int) -> NDArray[np.int8]:
    yes, no = count_VK3[..., 0], count_VK3[..., 1]
    return np.where((yes + no < min_votes) | (yes == no), -1, yes > no).astype(np.int8)
