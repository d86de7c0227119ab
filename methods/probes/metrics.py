"""Scores -> top-1, top-5, the accuracy of every class, and how sure the top-1 is."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

LEVEL = 0.95  # of the interval
TOP = 5


@dataclass(frozen=True)
class Metrics:
    """In percent. top5: None with five classes or fewer, where it is 100 whatever the scores.

    per_class: the share of each class's images that are right, None for a class without images.
    interval: of top1, at 95 %, by the percentile bootstrap over the images.
    """

    top1: float
    top5: float | None
    per_class: tuple[float | None, ...]
    interval: tuple[float, float]
    images: int


def metrics(scores: Iterable[Tensor], label: Tensor) -> Metrics:
    """Of scores in chunks, float (q, C) each, one row an image in the order of `label`, int64 (Q,).

    ValueError if there are no images, not as many rows as labels, a label that has no column, or a score that is NaN
    or infinite.
    """
    from torchmetrics.classification import MulticlassAccuracy, MulticlassStatScores

    seen, top5 = 0, None
    for chunk in scores:
        if seen == 0:
            classes = chunk.shape[1]
            if int(label.max()) >= classes:
                raise ValueError(f"there are scores of {classes} classes, and a label is {int(label.max())}")
            counts = MulticlassStatScores(classes, average=None, validate_args=False).to(chunk.device)
            if classes > TOP:
                top5 = MulticlassAccuracy(classes, TOP, average="micro", validate_args=False).to(chunk.device)
        if not chunk.isfinite().all():
            raise ValueError("the scores are not finite")
        right = label[seen : seen + len(chunk)].to(chunk.device)
        seen += len(chunk)
        if seen > len(label):
            break
        counts.update(chunk, right)
        if top5:
            top5.update(chunk, right)
    if seen != len(label) or seen == 0:
        raise ValueError(f"there are scores of {seen} images and {len(label)} labels")
    hits, *_, images = counts.compute().T.tolist()
    return Metrics(
        top1=100 * sum(hits) / seen,
        top5=100 * float(top5.compute()) if top5 else None,
        per_class=tuple(100 * h / n if n else None for h, n in zip(hits, images, strict=True)),
        interval=bootstrap(sum(hits), seen),
        images=seen,
    )


def bootstrap(hits: int, images: int, level: float = LEVEL) -> tuple[float, float]:
    """The percentile bootstrap's interval of hits / images, in percent.

    A resample of `images` zeros and ones with replacement has a binomial number of ones, so that the quantiles that
    resampling without end would come to are the binomial's: exact, and without a seed.
    """
    from scipy.stats import binom

    low, high = binom.ppf([(1 - level) / 2, (1 + level) / 2], images, hits / images)
    return 100 * float(low) / images, 100 * float(high) / images
