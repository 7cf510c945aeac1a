"""From raw videos to majority-voted labels, on a real Label Studio."""

from stp_bench.annotate._project import Project, open_project

__all__ = ["Project", "open_project"]
