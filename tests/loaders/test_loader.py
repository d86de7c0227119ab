"""The loader's promises: the same pixels however it is run, errors that arrive, nothing left behind."""

import threading

import numpy as np
import pytest
import torch

from loaders import presets
from loaders.beton import open_beton
from loaders.decode import Decoder, output_layout, view_table
from loaders.loader import Loader
from loaders.views import Blur, Jitter, Solarize, View

SIMCLR = presets.preset("simclr-imagenet", 64)


def by_sample(loader, epoch=0):
    """sample number -> its views as one array, and its label."""
    out = {}
    for batch in loader.epoch(epoch):
        for row, index in enumerate(batch.index.tolist()):
            out[index] = ([view[row].numpy().copy() for view in batch.views], int(batch.label[row]))
    return out


def same(a, b):
    assert a.keys() == b.keys()
    for index, (views, label) in a.items():
        others, other_label = b[index]
        assert label == other_label
        for one, two in zip(views, others, strict=True):
            assert np.array_equal(one, two), index


def test_pixels_do_not_depend_on_threads_batch_or_order(photographs):
    with Loader(photographs, SIMCLR, 48, shuffle=False) as loader:
        expected = by_sample(loader, 3)
    assert len(expected) == 48
    for threads, batch, shuffle in ((2, 48, True), (4, 7, True), (2, 1, False)):
        with Loader(photographs, SIMCLR, batch, threads=threads, shuffle=shuffle, drop_last=False) as loader:
            same(by_sample(loader, 3), expected)


def test_pixels_depend_on_seed_and_epoch(fashion):
    indices = np.arange(64)
    drawn = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        with Loader(
            fashion, presets.preset("simclr-gray", 28), 64, indices=indices, seed=seed, shuffle=False
        ) as loader:
            drawn[seed, epoch] = next(loader.epoch(epoch)).views
    for key in ((0, 1), (1, 0)):
        assert not torch.equal(drawn[0, 0][0], drawn[key][0])
    assert not torch.equal(drawn[0, 0][0], drawn[0, 0][1]), "two views of one image are two draws"


def test_a_batch_has_the_contract_s_shapes(photographs):
    views = (View(32), View(64, jitter=Jitter(0.4, 0.4, 0.2, 0.1, 0.8), solarize=Solarize(128, 0.5)), View(32))
    with Loader(photographs, views, 16) as loader:
        batch = next(loader.epoch(0))
    assert [tuple(view.shape) for view in batch.views] == [(16, 3, 32, 32), (16, 3, 64, 64), (16, 3, 32, 32)]
    for view in batch.views:
        assert view.dtype == torch.uint8 and view.is_contiguous(memory_format=torch.channels_last)
    assert batch.label.dtype == batch.index.dtype == torch.int64
    assert torch.equal(batch.label, torch.from_numpy(photographs.labels)[batch.index])


def test_the_eval_view_of_a_small_raw_image_is_the_image(fashion):
    with Loader(fashion, presets.preset("eval", 28), 100, shuffle=False) as loader:
        batch = next(loader.epoch(0))
    pixels = np.stack([fashion.file[p : p + 28 * 28 * 3].reshape(28, 28, 3) for p in fashion.pointers[:100]])
    assert np.array_equal(batch.views[0].permute(0, 2, 3, 1).numpy(), pixels)


@pytest.mark.parametrize(("drop_last", "sizes"), [(True, [30, 30, 30]), (False, [30, 30, 30, 10])])
def test_an_epoch_visits_every_image_once(fashion, drop_last, sizes):
    indices = np.arange(500, 600)
    with Loader(fashion, (View(28),), 30, indices=indices, drop_last=drop_last, threads=2) as loader:
        seen = [batch.index.tolist() for batch in loader.epoch(0)]
    assert len(seen) == len(loader) and [len(batch) for batch in seen] == sizes
    flat = [index for batch in seen for index in batch]
    assert len(set(flat)) == len(flat) and set(flat) <= set(indices.tolist())
    assert flat != sorted(flat)


def test_a_kept_batch_never_changes(fashion):
    with Loader(fashion, (View(28),), 50, threads=2) as loader:
        batches = loader.epoch(0)
        first = next(batches)
        before = first.views[0].clone()
        for _ in batches:
            pass
        assert torch.equal(first.views[0], before)


def test_a_corrupt_image_reaches_the_caller_by_number_field_and_file(photographs, copy_of):
    path = copy_of(photographs)
    content = bytearray(path.read_bytes())
    middle = int(photographs.pointers[5]) + 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    with (
        Loader(open_beton(path), SIMCLR, 16, threads=2, shuffle=False) as loader,
        pytest.raises(ValueError, match=rf"{path}: sample 5, field image: .*JPEG"),
    ):
        list(loader.epoch(0))


def test_early_breaks_leave_no_thread_and_no_decoder(photographs):
    before = threading.active_count()
    with Loader(photographs, SIMCLR, 8, threads=2) as loader:
        for epoch in range(100):
            for _ in loader.epoch(epoch):
                break
        assert threading.active_count() <= before + 2
    assert threading.active_count() == before
    assert loader._decoders == []


def test_too_few_images_for_a_batch_are_an_error(fashion):
    with pytest.raises(ValueError, match=r"10 images do not fill one batch of 16"):
        Loader(fashion, (View(28),), 16, indices=np.arange(10))


def test_every_op_at_once_agrees_with_the_decoder_called_alone(photographs):
    """The loader adds threads, order and memory; not a pixel."""
    view = View(
        48, jitter=Jitter(0.8, 0.8, 0.8, 0.2, 1.0), gray=0.2, blur=Blur(0.1, 2, 5, 1.0), solarize=Solarize(99, 0.5)
    )
    samples = np.array([7, 3, 11])
    offsets, size = output_layout((view,), 3)
    out = np.empty(size, np.uint8)
    p = photographs
    with Decoder() as decoder:
        status = decoder.render(
            p.file,
            p.modes,
            p.heights,
            p.widths,
            p.pointers,
            p.sizes,
            samples,
            view_table((view,)),
            9,
            2,
            out,
            offsets,
            0,
        )
    assert not status.any()
    with Loader(photographs, (view,), 3, indices=samples, seed=9, shuffle=False, threads=2) as loader:
        batch = next(loader.epoch(2))
    assert np.array_equal(batch.views[0].permute(0, 2, 3, 1).numpy().ravel(), out)
