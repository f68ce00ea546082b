"""`rtok report`: runs of every command in one Markdown and one HTML page."""

from rtok.reporting.report.write import Report, write_leaderboard, write_report

__all__ = ["Report", "write_leaderboard", "write_report"]
