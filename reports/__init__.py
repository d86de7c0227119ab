"""evidence -> pages: the leaderboard as a terminal table, as CSV and as a web page."""
