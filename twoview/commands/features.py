"""The command `features`: what encoders have learned, in figures."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from twoview.bench.config.experiment import place_of
from twoview.bench.evaluation import representations
from twoview.commands.numbers import a_seed, above_0, at_least
from twoview.commands.output import show
from twoview.reports.representations import plot


def run(
    checkpoints: Positional[tuple[Path, ...]],
    out: Path = Path("out/features"),
    betons: Path | None = None,
    data_root: Path | None = None,
    json: bool = False,
    *,
    options: Annotated[representations.Options, arg(name="")] = representations.Options(),  # noqa: B008  # frozen
) -> None:
    """Show what encoders have learned, on their test images: t-SNE, firing rates, filters, most activating images.

    The encoders are shown side by side, and each figure comes with numbers: how well the classes are separated, by
    silhouette and kNN, and how often and how sparsely the units of each layer fire. Images without labels are those of
    the train split, and have no classes to separate.

    Args:
        checkpoints: files that `twoview train` wrote.
        out: folder of the figures, and of one JSON file per encoder.
        betons: folder of the .beton files; by default the one that the first checkpoint was trained from.
        data_root: folder of your datasets; TWOVIEW_DATA by default.
        json: print the results as JSON.
    """
    if not checkpoints:
        raise ValueError("features needs a checkpoint")
    at_least(0, images=options.images)
    at_least(1, k=options.k)
    above_0(perplexity=options.perplexity)
    a_seed(32, seed=options.seed)
    place = place_of(checkpoints[0].parent.parent, betons, data_root)
    measured = [representations.measure(path, place, options) for path in checkpoints]
    written = [*representations.write(measured, options, out), *plot(measured, options, out)]
    results = [representations.as_result(one, options) for one in measured]
    show(results, json, "\n".join([representations.text(measured), *map(str, written)]))
