"""``stp-bench annotate``."""

from __future__ import annotations

from stp_bench.cli.annotate import project, server, votes
from stp_bench.cli.annotate._app import app

__all__ = ["app"]

app.command(epilog=server.SERVE_EXAMPLE)(server.serve)
app.command(epilog=server.PEOPLE_EXAMPLE)(server.people)
app.command(epilog=project.INIT_EXAMPLE)(project.init)
app.command(epilog=project.STATUS_EXAMPLE)(project.status)
app.command(epilog=project.PULL_EXAMPLE)(project.pull)
app.command(epilog=project.ADJUDICATE_EXAMPLE)(project.adjudicate)
app.command(epilog=project.PURGE_EXAMPLE)(project.purge)
app.command(epilog=votes.VOTE_EXAMPLE)(votes.vote)
app.command(epilog=votes.AGREEMENT_EXAMPLE)(votes.agreement)
app.command(epilog=votes.EXPORT_EXAMPLE)(votes.export)
app.command("votes-export", epilog=votes.VOTES_EXPORT_EXAMPLE)(votes.votes_export)
app.command("votes-import", epilog=votes.VOTES_IMPORT_EXAMPLE)(votes.votes_import)
