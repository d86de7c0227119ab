"""Masks: exactly the given number of patches, all equally likely, and the same however the loader is run."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.support.betons import damaged_beton
from twoview.loaders import masks, rng
from twoview.loaders.loader import Loader
from twoview.loaders.masks import Mask, draw
from twoview.loaders.reference import Reference
from twoview.loaders.resident import Resident
from twoview.loaders.views import View

VIEWS = (View(28), View(14, scale=(0.1, 0.5)))
MASKS = (Mask(0, 7, 7, 12), Mask(1, 7, 7, 20, "block", smallest=3), Mask(0, 14, 7, 98))

sides = st.integers(1, 15)
seeds, epochs = st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)


@st.composite
def any_mask(data):
    rows, columns = data(sides), data(sides)
    kept, smallest = data(st.integers(1, rows * columns)), data(st.integers(1, 20))
    kind, view = data(st.sampled_from(["random", "block"])), data(st.integers(0, 11))
    return Mask(view, rows, columns, kept, kind, smallest, data(st.sampled_from([(0.3, 1 / 0.3), (1.0, 1.0)])))


@settings(max_examples=100)
@given(mask=any_mask(), seed=seeds, epoch=epochs, first=st.integers(0, 2**31))
def test_so_many_patches_exactly_sorted_distinct_and_there(mask, seed, epoch, first):
    samples = np.arange(first, first + 5)
    kept = draw(mask, samples, seed, epoch)
    assert kept.shape == (5, mask.kept) and kept.dtype == np.int64
    assert kept.min() >= 0 and kept.max() < mask.patches
    assert (np.diff(kept, axis=1) > 0).all()
    assert np.array_equal(draw(mask, samples[3:4], seed, epoch)[0], kept[3]), "a sample's mask depends on no other"


def words(seed, epoch, sample, view, number):
    return rng.philox(np.uint64(seed), sample, epoch, view << 16 | rng.MASK, number)


@settings(max_examples=50)
@given(mask=any_mask(), seed=seeds, epoch=epochs, sample=st.integers(0, 2**32 - 1))
def test_the_plain_definitions(mask, seed, epoch, sample):
    plain = plain_random if mask.kind == "random" else plain_blocks
    assert draw(mask, np.array([sample]), seed, epoch)[0].tolist() == plain(mask, seed, epoch, sample)


def plain_random(mask, seed, epoch, sample):
    kept = []
    for patch in range(mask.patches):
        u = int(words(seed, epoch, sample, mask.view, patch // 4)[patch % 4]) / 2**32
        if math.floor(u * (mask.patches - patch)) < mask.kept - len(kept):
            kept.append(patch)
    return kept


def plain_blocks(mask, seed, epoch, sample):
    """BEiT's generator with a set instead of an array, then the remaining patches one by one."""
    key, wanted, masked, number = np.uint64(seed), mask.patches - mask.kept, set(), 0

    def uniform(draw):
        return rng.uniform(key, epoch, sample, mask.view, rng.MASK, draw)

    while len(masked) < wanted:
        for _ in range(masks.TRIES):
            area, aspect, top, left = (uniform(number + k) for k in range(4))
            number += 4
            missing = wanted - len(masked)
            area = mask.smallest + (missing - mask.smallest) * area
            low, high = map(math.log, mask.aspect)
            aspect = math.exp(low + (high - low) * aspect)
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height >= mask.rows or width >= mask.columns:
                continue
            top, left = int((mask.rows - height + 1) * top), int((mask.columns - width + 1) * left)
            block = {y * mask.columns + x for y in range(top, top + height) for x in range(left, left + width)}
            if 0 < len(block - masked) <= missing:
                masked |= block
                break
        else:
            break
    for patch in range(mask.patches):
        visible = [p for p in range(patch, mask.patches) if p not in masked]
        if patch in visible and uniform(number + patch) * len(visible) < wanted - len(masked):
            masked.add(patch)
    return sorted(set(range(mask.patches)) - masked)


def test_every_patch_is_kept_equally_often_and_every_pair():
    """Chi-square at p > 0.01 for counts of single patches and of pairs, with a fixed seed."""
    mask, count = Mask(0, 3, 4, 5), 20_000
    kept = np.zeros((count, 12))
    np.put_along_axis(kept, draw(mask, np.arange(count), 1, 0), 1, axis=1)
    together = kept.T @ kept
    pairs = together[np.triu_indices(12, 1)]
    for counts, chance, dependence in ((np.diag(together), 5 / 12, 7 / 11), (pairs, 5 * 4 / (12 * 11), None)):
        expected = count * chance
        z = (counts - expected) / math.sqrt(expected * (1 - chance))
        if dependence is None:  # pairs are weakly correlated, so the largest of 66 is enough
            assert abs(z).max() < 4
        else:  # 12 counts with a fixed sum
            assert stats.chi2.sf((z**2).sum() * 11 / 12, 11) > 0.01


def test_blocks_are_blocks():
    """Block masks have short borders: neighbors are equal far more often than at random."""
    samples = np.arange(200)

    def alike(kind):
        grid = np.zeros((200, 196), bool)
        np.put_along_axis(grid, draw(Mask(0, 14, 14, 76, kind), samples, 0, 0), True, axis=1)
        grid = grid.reshape(200, 14, 14)
        return np.mean(grid[:, 1:] == grid[:, :-1])

    assert alike("block") > 0.85 and 0.4 < alike("random") < 0.6


def test_masks_depend_on_seed_epoch_sample_and_view():
    samples = np.arange(8)
    base = draw(MASKS[0], samples, 0, 0)
    others = [draw(MASKS[0], *key) for key in ((samples, 1, 0), (samples, 0, 1), (samples + 8, 0, 0))]
    others.append(draw(Mask(1, 7, 7, 12), samples, 0, 0))
    assert not any(np.array_equal(base, other) for other in others)


def same(ours, theirs):
    pairs = list(zip(ours, theirs, strict=True))
    assert pairs
    for mine, other in pairs:
        assert torch.equal(mine.index, other.index) and len(mine.masks) == len(other.masks) == 3
        for one, two in zip(mine.masks, other.masks, strict=True):
            assert one.dtype == torch.int64 and torch.equal(one, two)


def test_loader_resident_and_reference_agree_and_only_the_sample_counts(fashion):
    indices = np.arange(100, 150)
    shared = {"masks": MASKS, "indices": indices, "seed": 2**63 + 1, "drop_last": False}
    with Loader(fashion, VIEWS, 20, **shared) as loader, Resident(fashion, VIEWS, 20, device="cpu", **shared) as ours:
        same(loader.epoch(3), Reference(fashion, VIEWS, 20, **shared).epoch(3))
        same(ours.epoch(3), loader.epoch(3))
    with Loader(fashion, VIEWS, 7, threads=3, shuffle=False, **shared) as loader:
        for batch in loader.epoch(3):
            for mask, kept in zip(MASKS, batch.masks, strict=True):
                assert np.array_equal(kept.numpy(), draw(mask, batch.index.numpy(), 2**63 + 1, 3))


@pytest.mark.parametrize("make", [Loader, lambda *a, **k: Resident(*a, device="cpu", **k)])
def test_ranks_and_a_restart_see_the_same_masks(fashion, make):
    shared = {"masks": MASKS, "indices": np.arange(60), "seed": 5}
    with make(fashion, VIEWS, 12, **shared) as loader:
        whole = list(loader.epoch(2))
        with loader.epoch(2) as batches:
            next(batches), next(batches)
            state = loader.state_dict()
    with make(fashion, VIEWS, 6, rank=1, world=2, **shared) as loader:
        loader.load_state_dict(state)
        rest = list(loader.epoch(2))
    assert len(rest) == 3
    for mine, expected in zip(rest, whole[2:], strict=True):
        assert all(torch.equal(a, b[6:]) for a, b in zip(mine.masks, expected.masks, strict=True))


def test_the_mask_of_a_replaced_sample_is_the_replacement_s(photographs, tmp_path):
    file = damaged_beton(photographs, tmp_path / "a.beton", {5})
    with Loader(file, (View(28),), 12, masks=MASKS[:1], threads=2, shuffle=False, on_error="skip") as loader:
        batch = next(loader.epoch(0))
    assert batch.index.tolist() == [0, 1, 2, 3, 4, 22, 6, 7, 8, 9, 10, 11]
    assert np.array_equal(batch.masks[0].numpy(), draw(MASKS[0], batch.index.numpy(), 0, 0))


def test_a_kept_share_is_rounded_down_to_whole_patches():
    views = (View(224), View(96))
    assert masks.view_mask(views, 0, 16, 0.25) == Mask(0, 14, 14, 49)
    assert masks.view_mask(views, 1, 16, 0.3) == Mask(1, 6, 6, 10)
    assert masks.view_mask(views, 0, 16, 1 - 0.612, "block", 4) == Mask(0, 14, 14, 76, "block", 4)
    assert masks.view_mask((View(40),), 0, 4, 1 - 0.9).kept == 10, "100 * (1 - 0.9) is 9.999..."


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mask(0, 4, 4, 0), r"kept must be 1 \.\. 16 patches, got 0"),
        (lambda: Mask(0, 4, 4, 17), r"kept must be 1 \.\. 16 patches, got 17"),
        (lambda: Mask(-1, 4, 4, 1), "view must be at least 0, got -1"),
        (lambda: Mask(0, 0, 4, 1), "rows and columns must be at least 1, got 0 and 4"),
        (lambda: Mask(0, 4, 4, 1, "stripes"), "kind must be random or block, got 'stripes'"),
        (lambda: Mask(0, 4, 4, 1, "block", 0), "smallest block must be at least 1 patch, got 0"),
        (lambda: Mask(0, 4, 4, 1, "block", 4, (2.0, 1.0)), r"aspect must be .* got \(2.0, 1.0\)"),
        (lambda: masks.view_mask(VIEWS, 0, 4, 0.0), "kept must be above 0 and at most 1, got 0.0"),
        (lambda: masks.view_mask(VIEWS, 0, 4, 1.1), "kept must be above 0 and at most 1, got 1.1"),
        (lambda: masks.view_mask(VIEWS, 0, 14, 0.2), r"a share of 0\.2 leaves none of 4 patches"),
        (lambda: masks.view_mask(VIEWS, 0, 16, 0.5), "view of 28 pixels is not divisible into patches of 16"),
        (lambda: masks.checked([Mask(0, 8, 8, 4)], VIEWS), "view of 28 pixels is not divisible into 8 x 8 patches"),
        (lambda: masks.checked([Mask(2, 7, 7, 4)], VIEWS), "view must be below 2, the number of views, got 2"),
    ],
)
def test_what_cannot_be_masked_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_loaders_refuse_a_mask_that_does_not_fit(fashion):
    for make in (Loader, Reference, lambda *a, **k: Resident(*a, device="cpu", **k)):
        with pytest.raises(ValueError, match="28 pixels is not divisible into 8 x 8"):
            make(fashion, VIEWS, 4, masks=[Mask(0, 8, 8, 4)])
