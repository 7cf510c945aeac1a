"""Rows of tables with thousands of tags: kept as the tags present, spread out one video at a time."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stp_bench.schema import COMPACT, Labels, Target


def spread(numbers: Iterable[int], classes: int) -> Labels:
    """Labels of ``classes`` classes of which those with these numbers are present."""
    labels = array("b", bytes(classes))
    for number in numbers:
        labels[number] = 1
    return labels if classes >= COMPACT else tuple(labels)


class TagRows(Mapping[str, Mapping[str, Labels | None]]):
    """Labels of videos, of which a handful out of thousands of classes are present.

    Reading a row makes its labels; what is kept grows with the tags present only.
    """

    def __init__(self, targets: Sequence[Target], present: Mapping[str, Mapping[str, Sequence[int] | None]]) -> None:
        """``present``: video id to target name to numbers of the classes present (None: not labelled)."""
        self._sizes = {target.name: len(target.classes) for target in targets}
        self._present = {
            key: tuple(None if of[name] is None else array("H", of[name] or ()) for name in self._sizes)
            for key, of in sorted(present.items())
        }

    def __getitem__(self, video_id: str) -> Mapping[str, Labels | None]:
        present = zip(self._sizes.items(), self._present[video_id], strict=True)
        return {name: None if numbers is None else spread(numbers, size) for (name, size), numbers in present}

    def __iter__(self) -> Iterator[str]:
        return iter(self._present)

    def __len__(self) -> int:
        return len(self._present)
