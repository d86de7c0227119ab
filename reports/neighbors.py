"""A page of query images and their nearest neighbors, which contains the pictures and loads no other file."""

import base64
from collections.abc import Mapping
from pathlib import Path

from twoview.bench.evaluation.neighbors import Neighbors
from twoview.loaders.files import whole_file
from twoview.reports.templating import pages


def write(found: Neighbors, thumbnails: Mapping[int, bytes], path: Path) -> None:
    """Write the page. thumbnails: row -> the image as a JPEG, for the queries and their neighbors."""
    with whole_file(path) as temporary:
        temporary.write_text(render(found, thumbnails), encoding="utf-8")


def render(found: Neighbors, thumbnails: Mapping[int, bytes]) -> str:
    """Return the page as HTML."""
    addresses = {row: f"data:image/jpeg;base64,{base64.b64encode(one).decode()}" for row, one in thumbnails.items()}
    queries = list(zip(found.query.tolist(), found.row.tolist(), found.cosine.tolist(), strict=True))
    template = pages().get_template("neighbors.html.j2")
    return template.render(found=found, addresses=addresses, queries=queries, sentence=sentence(found))


def sentence(found: Neighbors) -> str:
    """Return in words what was searched and, if there are labels, how many neighbors have their query's class."""
    count, k = found.row.shape
    searched = (
        f"{count:,} of the {len(found.path):,} images at {found.images} are shown, each with the {k} others that are "
        f"most similar to it by the cosine of the features of {found.encoder}."
    )
    if found.same_class is None:
        return f"{searched} They have no labels."
    return f"{searched} {found.same_class:.1f} % of these have their query's class."
