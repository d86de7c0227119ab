"""The web page: a single HTML file that loads nothing else, with every value escaped by the template engine."""

from typing import Any

from markupsafe import Markup

from twoview.bench.runtime.escapes import on_lines
from twoview.reports.contents import Report
from twoview.reports.sections import SECTIONS
from twoview.reports.sentences import headline
from twoview.reports.templating import templates


def render(report: Report) -> str:
    """Return the report as one HTML page.

    The page depends only on the report: it contains neither the current date nor a path on this machine.
    """
    sections = [make(report) for make in SECTIONS]
    return (
        templates(autoescape=True, finalize=_visible)
        .get_template("index.html.j2")
        .render(
            headline=headline(report.tables["summary"].frame, report.tables["loader"].frame),
            complaints=report.complaints,
            sections=[section for section in sections if section.parts],
        )
    )


def _visible(value: Any) -> Any:
    """Return a text in which invisible characters, such as right-to-left marks, are written out.

    Non-breaking spaces are kept, since the template itself makes them. Values that are not plain text are returned
    unchanged.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\u00a0".join(map(on_lines, value.split("\u00a0")))
