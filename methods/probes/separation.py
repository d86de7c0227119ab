"""How far classes lie apart: t-SNE's picture, and what the picture shows as numbers. All by scikit-learn."""

from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor


class Separation(NamedTuple):
    """silhouette: the mean over all points, from -1 to 1; 0 where classes lie upon one another. knn: percent of points
    whose class is that of most of their nearest neighbors, of which the point is none.
    """

    silhouette: float
    knn: float


def directions(x: Tensor) -> np.ndarray:
    """(N, D) -> float32 (N, D), each row of length 1: similarity is the cosine, as in kNN and in contrastive losses."""
    return F.normalize(x.float().flatten(1), dim=1).cpu().numpy()


def separation(x: np.ndarray, label: np.ndarray, k: int) -> Separation:
    """Of the points' classes, by Euclidean distance. x: (N, D). label: int64 (N,). k: neighbors that vote.

    ValueError if all are of one class, or there are no k neighbors.
    """
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import KNeighborsClassifier

    if len(np.unique(label)) < 2:
        raise ValueError("the images are all of one class, and nothing can lie apart")
    if not 0 < k < len(x):
        raise ValueError(f"k is {k}: each of {len(x)} images has {len(x) - 1} neighbors")
    votes = KNeighborsClassifier(k).fit(x, label)
    return Separation(float(silhouette_score(x, label)), 100 * float(votes.score(None, label)))


def tsne(x: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """(N, D) -> float32 (N, 2), by t-SNE (van der Maaten and Hinton 2008) from the principal components.

    ValueError if the perplexity is not between 0 and the number of points.
    """
    from sklearn.manifold import TSNE

    if not 0 < perplexity < len(x):
        raise ValueError(f"perplexity is {perplexity:g}: it must be above 0 and below the {len(x)} images")
    embedded: np.ndarray = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(x)
    return embedded
