"""The runs' test videos with everything that is shown of them: findings, verdicts, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stp_bench.progress import Reporter
from stp_bench.viewer import _clips, _records, _render
from stp_bench.viewer._records import Record
from stp_bench.viewer._render import Media
from stp_bench.viewer._runs import Run

LIMIT = 500
"""Videos that are shown unless asked otherwise."""


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What a viewer shows."""

    runs: Sequence[Run]
    records: Sequence[Record]
    """The videos that are shown, sorted by id."""
    media: Mapping[str, Media]
    """By video id."""
    total: int
    """How many videos were judged."""

    @property
    def counts(self) -> dict[str, int]:
        """How many of the shown videos each verdict has."""
        return _records.counts(self.records, _records.view_names(self.runs))


def gather(
    runs: Sequence[Run],
    home: Path,
    reporter: Reporter,
    *,
    limit: int = LIMIT,
    device: str = "auto",
    margins: Mapping[str, Mapping[str, int]] | None = None,
) -> Gathered:
    """Choose the videos, render what is missing, and say of each what happened to it.

    Args:
        runs: runs of the same videos, from `open_runs`.
        home: the data home that they were made in.
        limit: the most videos to show: failures first, then others, chosen by their names.
        margins: votes for minus votes against, by video id and attribute, where labels come from votes.

    Raises:
        UserError: the videos are not there, or a method does not fit this version.
        WorkError: videos were moved or changed, a method failed, or the disk refused.
    """
    everything = _records.with_votes(_records.records(runs), margins or {})
    chosen = _records.choose(everything, limit)
    ids = [record.video_id for record in chosen]
    source = _clips.open_source(_records.judged(runs), ids, home, device, reporter)
    videos = {video.video_id: video for video in source.dataset.videos}
    media = _render.render(source, [videos[video_id] for video_id in ids], home, reporter)
    pruned = {
        run.label: {i: of.facts[run.label].pruned or 0.0 for i, of in media.items()} for run in _records.judged(runs)
    }
    return Gathered(
        runs=runs, records=_records.with_most_pruned(chosen, pruned, runs), media=media, total=len(everything)
    )
