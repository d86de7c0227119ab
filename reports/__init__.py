"""From evidence records to reports: the leaderboard and other tables on the terminal, as files and as a web page."""
