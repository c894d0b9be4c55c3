"""What people look at after a run: pictures of it, and a page that holds them all.

Importing this package is light; matplotlib and jinja2 are imported when something is drawn.
"""

from dalipipe.training.report.page import Outcome, write_report

__all__ = ["Outcome", "write_report"]
