"""Used by mkdocs.yml: docstring lines of the form `name: description` become a list, since Markdown would join them."""

import re

from griffe import Extension, GriffeLoader, Object

NAMED = re.compile(r"([a-z]\w*(?:, [a-z]\w*)*): (?=\S)")  # "batch: number of images", "rank, world: the number of"


def as_markdown(text: str) -> str:
    """Return a docstring in which lines of the form `name: description` are list items, with their continuation
    lines.
    """
    lines: list[str] = []
    listing, before = False, ""
    for line in text.splitlines():
        if named := NAMED.match(line):
            names = ", ".join(f"`{name}`" for name in named[1].split(", "))
            lines += [*([] if listing else [""]), f"- {names}: {line[named.end() :]}"]
            listing = True
        elif listing and line.strip() and not (before.endswith(".") and line[0].isupper()):
            lines.append(f"    {line.strip()}")
        else:
            lines += [*([""] if listing else []), line]  # a list ends with an empty line
            listing = False
        before = line
    return "\n".join(lines)


class Docstrings(Extension):
    """Rewrites the docstring of each object that is loaded."""

    def on_object(self, *, obj: Object, loader: GriffeLoader, **kwargs: object) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
