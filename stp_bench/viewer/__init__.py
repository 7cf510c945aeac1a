"""See what is hidden and what still leaks: runs and votes in the FiftyOne App, as a page, as figures.

`open_runs` and `gather` lead from run folders to videos with findings, verdicts and playable files; `plan_of` describes
the data set, which `build` makes and `opened` shows, `write_site` makes a folder of it for those without FiftyOne.
`figure3` draws the paper's third figure, and `plan_of_votes` shows label work. Names are resolved when they are first
used: neither torch nor FiftyOne is imported before it is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stp_bench.viewer._annotations import VotedVideos, open_votes, plan_of_votes, read_margins
    from stp_bench.viewer._database import INSTALL, State, check_port, prepare, state
    from stp_bench.viewer._fiftyone import build, delete, link, listed, opened
    from stp_bench.viewer._figure3 import figure3
    from stp_bench.viewer._gather import LIMIT, Gathered, gather
    from stp_bench.viewer._plan import Plan, plan_of, slug
    from stp_bench.viewer._records import explained
    from stp_bench.viewer._render import remove_unused
    from stp_bench.viewer._runs import Run, open_runs
    from stp_bench.viewer._static import write_site

_MODULES = {
    "_annotations": ("VotedVideos", "open_votes", "plan_of_votes", "read_margins"),
    "_database": ("INSTALL", "State", "check_port", "prepare", "state"),
    "_fiftyone": ("build", "delete", "link", "listed", "opened"),
    "_figure3": ("figure3",),
    "_gather": ("LIMIT", "Gathered", "gather"),
    "_plan": ("Plan", "plan_of", "slug"),
    "_records": ("explained",),
    "_render": ("remove_unused",),
    "_runs": ("Run", "open_runs"),
    "_static": ("write_site",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "INSTALL", "LIMIT", "Gathered", "Plan", "Run", "State", "VotedVideos", "build", "check_port", "delete",
    "explained", "figure3", "gather", "link", "listed", "open_runs", "open_votes", "opened", "plan_of",
    "plan_of_votes", "prepare", "read_margins", "remove_unused", "slug", "state", "write_site",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
