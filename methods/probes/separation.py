"""How well classes are separated: a plot by t-SNE, and numbers for what it shows. All by scikit-learn."""

from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor


class Separation(NamedTuple):
    """How well the classes of a set of points are separated.

    silhouette: mean silhouette coefficient of all points, from -1 to 1; 0 where classes overlap. knn: percentage of
    points whose class is the most frequent one among their nearest neighbors, the point itself excluded.
    """

    silhouette: float
    knn: float


def directions(x: Tensor) -> np.ndarray:
    """Return the rows of x, (N, D), as float32 of unit length.

    Similarity is then the cosine, as in kNN and in contrastive losses.
    """
    return F.normalize(x.float().flatten(1), dim=1).cpu().numpy()


def separation(x: np.ndarray, label: np.ndarray, k: int) -> Separation:
    """Measure how well the classes of points are separated, by Euclidean distance.

    x: (N, D). label: int64 (N,). k: number of neighbors that vote.
    Raises ValueError if all points are of one class, or if a point has fewer than k neighbors.
    """
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import KNeighborsClassifier

    if len(np.unique(label)) < 2:
        raise ValueError("the images must have at least two classes to be separated, got one")
    if not 0 < k < len(x):
        raise ValueError(f"k must be from 1 to {len(x) - 1}, the neighbors of each of {len(x)} images, got {k}")
    votes = KNeighborsClassifier(k).fit(x, label)
    return Separation(float(silhouette_score(x, label)), 100 * float(votes.score(None, label)))


def tsne(x: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Embed the points x, (N, D), in the plane by t-SNE (van der Maaten and Hinton 2008): float32 (N, 2).

    t-SNE starts from the first two principal components.
    Raises ValueError if the perplexity is not above 0 and below the number of points.
    """
    from sklearn.manifold import TSNE

    if not 0 < perplexity < len(x):
        raise ValueError(f"perplexity must be above 0 and below the number of images, {len(x)}, got {perplexity:g}")
    embedded: np.ndarray = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(x)
    return embedded
