"""Scores -> top-1, top-5, the accuracy of every class, and how sure the top-1 is."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

LEVEL = 0.95  # of the interval
TOP = 5


@dataclass(frozen=True)
class Metrics:
    """In percent. top5: None with five classes or fewer, where it is 100 whatever the scores. An image counts in it if
    no more than five classes score as high as its own, or its own is the one that top1 takes: the classes that got no
    vote in a kNN have equal scores, and none of them was guessed.

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
    from torchmetrics.classification import MulticlassStatScores

    seen = top5 = 0
    for chunk in scores:
        if seen == 0:
            classes = chunk.shape[1]
            for wrong in label[(label < 0) | (label >= classes)].tolist():
                raise ValueError(f"there are scores of {classes} classes, and a label is {wrong}")
            counts = MulticlassStatScores(classes, average=None, validate_args=False).to(chunk.device)
        if not chunk.isfinite().all():
            raise ValueError("the scores are not finite")
        right = label[seen : seen + len(chunk)].to(chunk.device)
        seen += len(chunk)
        if seen > len(label):
            break
        counts.update(chunk, right)
        as_high = (chunk >= chunk.gather(1, right[:, None])).sum(1)
        top5 += int(((as_high <= TOP) | (chunk.argmax(1) == right)).sum())
    if seen != len(label) or seen == 0:
        raise ValueError(f"there are scores of {seen} images and {len(label)} labels")
    hits, *_, images = counts.compute().T.tolist()
    return Metrics(
        top1=100 * sum(hits) / seen,
        top5=100 * top5 / seen if classes > TOP else None,
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
