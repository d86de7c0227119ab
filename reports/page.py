"""The web page: a single HTML file that loads nothing else, with every value escaped by the template engine."""

from twoview.reports.contents import Report
from twoview.reports.sections import SECTIONS
from twoview.reports.sentences import headline
from twoview.reports.templating import pages


def render(report: Report) -> str:
    """Return the report as one HTML page.

    The page depends only on the report: it contains neither the current date nor a path on this machine.
    """
    sections = [make(report) for make in SECTIONS]
    return (
        pages()
        .get_template("index.html.j2")
        .render(
            headline=headline(report.tables["summary"].frame, report.tables["loader"].frame),
            complaints=report.complaints,
            sections=[section for section in sections if section.parts],
        )
    )
