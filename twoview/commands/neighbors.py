"""The command `neighbors`: a page of images and their nearest neighbors."""

from json import dumps
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from twoview.bench.config.experiment import chosen_device
from twoview.bench.evaluation import embedding, neighbors
from twoview.bench.evaluation.embedding import Options
from twoview.bench.runtime.escapes import on_one_line
from twoview.bench.runtime.locks import alone
from twoview.commands.numbers import at_least, at_most
from twoview.commands.output import show
from twoview.loaders.files import whole_file
from twoview.loaders.limits import BATCH
from twoview.reports import neighbors as page


def run(
    encoder: Positional[str],
    path: Positional[str],
    out: Path = Path("out/neighbors"),
    queries: int = 20,
    query: tuple[str, ...] = (),
    k: int = 10,
    betons: Path | None = None,
    json: bool = False,
    *,
    options: Annotated[Options, arg(name="")] = Options(),  # noqa: B008  # frozen
) -> None:
    """Write a page of images and their nearest neighbors by an encoder: the images need no labels.

    The features are those of `twoview embed`, and are kept in the same folder, OUT/features.parquet. The page,
    OUT/index.html, contains all of its pictures; OUT/neighbors.json says the same in numbers.

    Args:
        encoder: a file that `twoview train` wrote, or torchvision:NAME, timm:NAME or checkpoint:FILE.
        path: images in any form that `train --data` takes.
        out: folder of the page.
        queries: number of images whose neighbors are shown, spread evenly over all of them.
        query: paths of these images instead.
        k: number of neighbors of each, the most similar ones by cosine.
        betons: folder of the .beton files that the images are converted to; by default that of the training run, or
            else OUT/betons.
        json: print the result as JSON.
    """
    at_least(1, queries=queries, k=k, batch=options.batch)
    at_most(BATCH, batch=options.batch)
    features = out / "features.parquet"
    with alone(features, "the file"):
        subject, images = embedding.opened(encoder, path, betons, out, options)
        if features.exists():
            embedding.check_same(features, embedding.describe(subject, images, options.precision))
        else:
            embedding.embed(subject, images, features, options)
        found = neighbors.search(features, queries, query, k, chosen_device(options.device))
        page.write(found, neighbors.thumbnails(images, found), out / "index.html")
        result = neighbors.as_result(found)
        with whole_file(out / "neighbors.json") as temporary:
            temporary.write_text(dumps(result, indent=1))
    lines = [f"skipped: {name}" for name in images.left_out]
    lines += [page.sentence(found), *(str(out / name) for name in ("index.html", "neighbors.json", "features.parquet"))]
    show(result | {"skipped": list(images.left_out)}, json, "\n".join(map(on_one_line, lines)))
