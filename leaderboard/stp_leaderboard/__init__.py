"""The leaderboard: result records, and the check that a record follows from the predictions behind it."""
