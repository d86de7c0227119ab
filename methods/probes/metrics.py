"""Accuracies from class scores: top-1 and its confidence interval, top-5, and the accuracy of each class."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

LEVEL = 0.95  # confidence level of the interval
TOP = 5  # the k of top-k


@dataclass(frozen=True)
class Metrics:
    """Accuracies on a set of images, in percent.

    top5: None with five classes or fewer, where it would be 100 whatever the scores. An image counts as right if at
    most five classes, its own included, score at least as high as its own, or if top1 predicts its own: in a kNN all
    classes without a vote have equal scores, and none of them was predicted.
    per_class: accuracy on the images of each class, None for a class without images.
    interval: 95 % interval of top1, by the percentile bootstrap over the images.
    images: number of images.
    """

    top1: float
    top5: float | None
    per_class: tuple[float | None, ...]
    interval: tuple[float, float]
    images: int


def metrics(scores: Iterable[Tensor], label: Tensor) -> Metrics:
    """Return the metrics of class scores.

    scores: in chunks, float (q, C) each, with one row per image in the order of `label`. label: int64 (Q,).
    Raises ValueError if there are no images, if the numbers of rows and labels differ, if a label has no column, or if
    a score is NaN or infinite.
    """
    from torchmetrics.classification import MulticlassStatScores

    seen = top5 = 0
    for chunk in scores:
        if seen == 0:
            classes = chunk.shape[1]
            for wrong in label[(label < 0) | (label >= classes)].tolist():
                raise ValueError(f"labels must be from 0 to {classes - 1}, a column of the scores, got {wrong}")
            counts = MulticlassStatScores(classes, average=None, validate_args=False).to(chunk.device)
        if not chunk.isfinite().all():
            raise ValueError("the scores are not finite")
        right = label[seen : seen + len(chunk)].to(chunk.device)
        seen += len(chunk)
        if seen > len(label):
            break
        counts.update(chunk, right)
        # The image's own class counts too, so that 1 is the best value.
        as_high = (chunk >= chunk.gather(1, right[:, None])).sum(1)
        top5 += int(((as_high <= TOP) | (chunk.argmax(1) == right)).sum())
    if seen != len(label) or seen == 0:
        raise ValueError(f"each image must have one label, got scores of {seen} images and {len(label)} labels")
    hits, *_, images = counts.compute().T.tolist()
    return Metrics(
        top1=100 * sum(hits) / seen,
        top5=100 * top5 / seen if classes > TOP else None,
        per_class=tuple(100 * h / n if n else None for h, n in zip(hits, images, strict=True)),
        interval=bootstrap(sum(hits), seen),
        images=seen,
    )


def bootstrap(hits: int, images: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the accuracy hits / images, in percent.

    A resample, with replacement, of `images` zeros and ones has a binomial number of ones. The quantiles that
    infinitely many resamples would give are therefore the quantiles of the binomial distribution: exact, and without a
    seed.
    """
    from scipy.stats import binom

    low, high = binom.ppf([(1 - level) / 2, (1 + level) / 2], images, hits / images)
    return 100 * float(low) / images, 100 * float(high) / images
