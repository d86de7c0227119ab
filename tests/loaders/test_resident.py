"""Images on the device: the loader's batches bit for bit, for all views, in any order, from any position."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.absent_gpu import GPU, Watch, scalar_inductor
from twoview.loaders import render, resident
from twoview.loaders.beton import JPEG, RAW, Stored, open_beton, write
from twoview.loaders.loader import Loader
from twoview.loaders.masks import Mask
from twoview.loaders.ops import blur, crop, erase, flip, gray, jitter, solarize
from twoview.loaders.presets import PRESETS, preset
from twoview.loaders.reference import decode
from twoview.loaders.resident import Resident, bytes_needed, fits
from twoview.loaders.views import OPS, Blur, Erase, Jitter, Solarize, View

EVERYTHING = View(
    32, jitter=Jitter(0.8, 0.8, 0.8, 0.5, 0.9), gray=0.2, blur=Blur(0.1, 2, 23, 0.5), solarize=Solarize(128, 0.5),
    erase=Erase(level=9, p=0.5),
)  # fmt: skip
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is not here: torch sees no such device")


@pytest.fixture(scope="module")
def thumbnails(photographs, tmp_path_factory):
    """Return a function: (width, height, mode) -> a beton of the photographs in color at that size."""

    def make(width, height, mode):
        def sample(index):
            small = Image.fromarray(decode(photographs, index)).resize((width, height), Image.Resampling.BICUBIC)
            content = small.tobytes()
            if mode == JPEG:
                small.save(file := io.BytesIO(), "jpeg", quality=90)
                content = file.getvalue()
            return Stored(mode, height, width, content, 100 + index)

        path = tmp_path_factory.mktemp("thumbnails") / f"{width}x{height}.beton"
        for _ in write(path, len(photographs), sample):
            pass
        return open_beton(path)

    return make


@pytest.fixture(scope="module")
def colors(thumbnails):
    """Return 48 real images of 32 x 32 pixels, raw."""
    return thumbnails(32, 32, RAW)


def same(ours, theirs):
    """Return whether two epochs are equal bit for bit, layout included; there must be a batch."""
    pairs = list(zip(ours, theirs, strict=True))
    assert pairs
    for mine, loaded in pairs:
        assert torch.equal(mine.label.cpu(), loaded.label) and torch.equal(mine.index.cpu(), loaded.index)
        for view, expected in zip(mine.views, loaded.views, strict=True):
            assert view.dtype == torch.uint8 and view.stride() == expected.stride()
            assert torch.equal(view.cpu(), expected), (view.cpu().int() - expected).abs().max()


def compare(beton, views, batch, epochs=(0,), device="cpu", **options):
    with Resident(beton, views, batch, device=device, **options) as ours, Loader(beton, views, batch, **options) as own:
        assert len(ours) == len(own)
        for epoch in epochs:
            same(ours.epoch(epoch), own.epoch(epoch))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset(colors, fashion, name):
    for size in (28, 32, 64):
        compare(colors, preset(name, size), 24, (1,), seed=2**63 + 5)
    compare(fashion, preset(name, 28), 48, indices=np.arange(96), seed=1)


probability = st.sampled_from([0.0, 0.5, 1.0])
strength = st.floats(0, 2)
VIEWS = st.builds(
    View,
    size=st.integers(12, 70),
    scale=st.sampled_from([(0.08, 1.0), (0.01, 0.05), (1.0, 1.0)]),
    ratio=st.sampled_from([(3 / 4, 4 / 3), (0.2, 5.0)]),
    flip=probability,
    jitter=st.none() | st.builds(Jitter, strength, strength, strength, st.floats(0, 0.5), probability),
    gray=probability,
    blur=st.none() | st.builds(Blur, st.just(0.1), st.floats(0.1, 8), st.integers(1, 11).map(lambda r: 2 * r + 1),
                               probability),
    solarize=st.none() | st.builds(Solarize, st.integers(0, 256), probability),
    erase=st.none() | st.builds(Erase, st.just(0.02), st.floats(0.02, 1), st.just(0.3), st.floats(0.3, 3.3),
                                st.integers(0, 255), probability),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)  # fmt: skip


@settings(max_examples=30)
@given(views=st.lists(VIEWS, min_size=1, max_size=3), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**31 - 1))
def test_any_views(colors, views, seed, epoch):
    compare(colors, views, 12, (epoch,), seed=seed, indices=np.arange(12))


@pytest.mark.parametrize(("width", "height"), [(40, 64), (64, 40), (33, 90)])
def test_jpegs_and_oblong_images_made_smaller_in_either_order(thumbnails, width, height):
    """PIL filters the columns of a tall box first. The batch has boxes of both orders."""
    shrunk = View(20, scale=(0.2, 1.0), ratio=(0.3, 3.0), interpolation="bicubic")
    center = View(24, scale=None, resize=30, flip=0.5)
    padded = View(24, scale=None, padding=5)
    larger = View(48, scale=None, resize=45, padding=3, interpolation="bicubic")
    views = shrunk, center, center, EVERYTHING, padded, padded, larger
    compare(thumbnails(width, height, JPEG), views, 48, seed=4)


def test_the_drawn_parameters_are_those_of_the_ops():
    views = (View(28, scale=(0.2, 1.0)), EVERYTHING)
    samples, seed, epoch = np.array([3, 1, 2**31]), 9, 4
    renderer = render.Renderer(views, 32, 40, torch.device("cpu"))
    drawn = renderer.draw(samples, seed, epoch)
    places = dict(zip(OPS, zip((render.FIRST, *renderer.ends), renderer.ends, strict=False), strict=True))

    def of(op, row):
        return row[slice(*places[op])]

    for number, view in enumerate(views):
        for row, sample in zip(drawn[number], samples, strict=True):
            key = np.uint64(seed), epoch, int(sample), number
            assert tuple(row[render.TOP : render.Y]) == crop.draw(32, 40, *view.scale, *view.ratio, *key)
            assert row[render.FLIPPED] == flip.draw(view.flip, *key)
            steps, amounts = [0] * 4, np.ones(4, np.float32)
            applied, factors, order = jitter.draw(*view.jitter, *key) if view.jitter else (False, (), ())
            if applied:
                steps, amounts = list(order), np.array([factors[step] for step in order], np.float32)
                amounts.view(np.int32)[steps.index(jitter.HUE)] = int(factors[jitter.HUE] * 255)
            assert list(of("jitter", row)) == steps + list(amounts.view(np.int32))
            assert of("gray", row) == gray.draw(view.gray, *key)
            assert of("solarize", row) == (128 if view.solarize and solarize.draw(0.5, *key) else 256)
            erased, top, left, height, width = erase.draw(32, *Erase()[: erase.LEVEL], 0.5, *key)
            box = [top, left, top + height, left + width, 9] if view.erase and erased else [0] * 5
            assert list(of("erase", row)) == box
            taps = np.array([1 << 22])
            blurred, sigma = blur.draw(0.1, 2, 0.5, *key)
            if view.blur and blurred:
                taps = blur.weights(23, sigma)
            assert list(np.trim_zeros(of("blur", row), "b")) == list(taps[len(taps) // 2 :])


@pytest.mark.parametrize("shift", [0, 1, -127, 127])
def test_every_hue_and_saturation_of_8_bits(shift):
    """Against the loader's kernel: all differences between the channels, in all orders of the channels."""
    middle, low = np.meshgrid(np.arange(256), np.arange(256))
    levels = np.stack([np.full_like(low, 255), middle, low], -1)[middle >= low]
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    bright = np.concatenate([levels[:, order] for order in orders])
    dark = bright - bright.min(1, keepdims=True)  # the same chromas at every value
    image = np.concatenate([bright, dark])[None].astype(np.uint8, order="C")
    planes = [torch.from_numpy(image[..., channel]).float() for channel in range(3)]
    turned = jitter.turn_planes(planes, torch.tensor(shift, dtype=torch.int32), torch.from_numpy(jitter.hue_ties()))
    jitter.hue(image, (shift + 0.5 * np.sign(shift)) / 255)
    assert np.array_equal(torch.stack(turned, -1).byte().numpy(), image)


def test_a_fused_multiply_add_changes_nothing():
    """The pixels are the same on every device because one rounding of product and sum, or two, give the same result."""
    factors = np.random.default_rng(0).uniform(0, 3, 2000).astype(np.float32)[:, None]
    differences = np.arange(-255, 256, dtype=np.float32)
    high = (factors.view(np.int32) & ~0xFFF).view(np.float32)
    for part in (high, factors - high):
        assert np.array_equal(part * differences, part.astype(np.float64) * differences)

    lost = np.unique(np.outer(np.arange(256), np.arange(256)))
    scaled = np.outer(np.arange(256), 65025 - lost).astype(np.float32)
    third = np.float32(1 / 65025)
    fused = (scaled.astype(np.float64) * np.float64(third) + 0.5).astype(np.float32)
    assert np.array_equal(np.floor(scaled * third + np.float32(0.5)), np.floor(fused))


def test_a_division_four_units_off_changes_nothing():
    """A GPU's fast division is wrong by up to two units in the last place."""
    whole = np.arange(1, 256, dtype=np.float32)[:, None]
    part = np.arange(6 * 255, dtype=np.float32)
    for dividend, divisor in ((255 * part, 6 * whole), (255 * part[:256], whole)):
        there = dividend < 256 * divisor
        exact = np.broadcast_to(dividend // divisor, there.shape)[there]
        quotient = ((dividend + np.float32(0.5)) / divisor)[there]
        for off in (-4, 4):
            assert np.array_equal(np.floor((quotient.view(np.int32) + off).view(np.float32)), exact)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_orders_and_lengths(fashion, shuffle, drop_last):
    indices = np.array([5, 1999, 3, 3, 800, 42, 7])
    compare(fashion, (View(8),), 3, (0, 1, 7), indices=indices, shuffle=shuffle, drop_last=drop_last, seed=9)
    compare(fashion, (View(8),), 5, (0, 3), order=lambda epoch: np.arange(11) + 10 * epoch, drop_last=drop_last)


@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks(colors, drop_last):
    for rank in range(3):
        compare(colors, (EVERYTHING,), 7, rank=rank, world=3, drop_last=drop_last)


def test_a_restart_in_mid_epoch_from_the_loader_s_state_or_its_own(colors):
    with Loader(colors, (EVERYTHING,), 8, seed=3) as loader, Resident(
        colors, (EVERYTHING,), 8, device="cpu", seed=3
    ) as first, Resident(colors, (EVERYTHING,), 4, device="cpu", seed=3, rank=1, world=2) as second:  # fmt: skip
        whole = list(loader.epoch(2))
        with loader.epoch(2) as theirs, first.epoch(2) as ours:
            for _ in range(3):
                next(theirs), next(ours)
            assert first.state_dict() == loader.state_dict()
        second.load_state_dict(first.state_dict())
        rest = list(second.epoch(2))
        assert len(rest) == 3
        for mine, expected in zip(rest, whole[3:], strict=True):
            assert torch.equal(mine.index, expected.index[4:]) and torch.equal(mine.views[0], expected.views[0][4:])
        first.load_state_dict(loader.state_dict())
        same(first.epoch(2), whole[3:])
        assert len(list(first.epoch(3))) == 6


def test_images_of_several_sizes_are_refused(photographs):
    with pytest.raises(ValueError, match=rf"{photographs.path}: .* must have one size; sample 0 has .* and sample \d+"):
        Resident(photographs, (View(32),), 8, device="cpu")
    assert not fits(photographs, torch.device("cpu"))
    assert fits(photographs, torch.device("cpu"), np.array([7])) is False, "one photograph is a large JPEG"


def test_images_that_exceed_the_memory_are_refused(colors, monkeypatch):
    needed = 48 * 32 * 32 * 3
    assert bytes_needed(colors, np.arange(48)) == needed
    assert fits(colors, torch.device("cpu"))
    monkeypatch.setattr(resident, "free_bytes", lambda device: needed - 1)
    assert not fits(colors, torch.device("cpu")) and fits(colors, torch.device("cpu"), np.arange(8))
    with pytest.raises(ValueError, match=r"48 images need 147,456 bytes, but cpu has 147,455 free"):
        Resident(colors, (View(32),), 8, device="cpu")


def test_a_damaged_image_is_named_before_the_first_batch(fashion, copy_of):
    path = copy_of(fashion)
    content = bytearray(path.read_bytes())
    content[int(fashion.pointers[5]) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path}: sample 5, field image: .*checksum"):
        Resident(open_beton(path), (View(28),), 8, device="cpu")


def test_every_renderer_is_one_graph_however_many_there_are(colors):
    """torch compiles one code object for at most eight renderers, and here for at most two."""
    images, places = torch.zeros(12, 32, 32, 3, dtype=torch.uint8), torch.arange(12)
    with torch._dynamo.config.patch(recompile_limit=2):
        for size in (16, 17, 18):
            renderer = render.Renderer((View(size),), 32, 32, torch.device("cpu"))
            drawn = torch.from_numpy(renderer.draw(np.arange(12), 0, 0))
            (view,) = resident.compiled(renderer, backend="eager")(images, places, drawn)
            assert torch.equal(view, renderer.make(images, places, drawn)[0])


def test_a_batch_on_a_gpu_is_made_without_waiting_for_it(colors, monkeypatch):
    """Uses tensors without values, so that reading one is an error.

    Drawn parameters, image positions and masks are copied to the device from page-locked memory, and nothing is copied
    back. The compiler of the views is not used.
    """
    monkeypatch.setattr(resident, "free_bytes", lambda device: 2**30)
    monkeypatch.setattr(resident, "compiled", lambda renderer: renderer.make)
    views, masks = (EVERYTHING, View(16)), (Mask(0, 4, 4, 6), Mask(1, 4, 4, 6, "block", smallest=2))
    with FakeTensorMode():
        loader = Resident(colors, views, 20, device=GPU, masks=masks, drop_last=False)
        with Watch() as watch:
            batches = list(loader.epoch(0))
    assert [len(batch.label) for batch in batches] == [20, 20, 8]
    for batch in batches:
        assert {t.device.type for t in (*batch.views, *batch.masks, batch.label, batch.index)} == {"cuda"}
        assert [view.shape[2] for view in batch.views] == [32, 16] and batch.masks[1].shape[1] == 6
    assert watch.fetched == watch.waited == []
    columns = loader._renderer.ends[-1]
    assert watch.sent == [(2, 20, columns), (20, 6), (20, 6), (20,)] * len(batches)


@pytest.mark.long
@pytest.mark.parametrize("name", PRESETS)
def test_compiled_for_the_processor(colors, name):
    """BYOL's views have every op, and when reduced as here, they are resized in either order."""
    views = preset(name, 24)
    with Resident(colors, views, 24, device="cpu") as ours, Loader(colors, views, 24) as own, scalar_inductor():
        ours._views_of = resident.compiled(ours._renderer)
        same(ours.epoch(0), own.epoch(0))


@needs_cuda
@pytest.mark.parametrize("name", ["byol", *(pytest.param(p, marks=pytest.mark.long) for p in PRESETS if p != "byol")])
def test_every_preset_on_a_gpu(colors, name):
    """Each preset is compiled, which takes half a minute. BYOL's views have every op."""
    compare(colors, preset(name, 28), 20, (0, 1), device="cuda", drop_last=False)


@needs_cuda
@pytest.mark.long
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_on_a_gpu_at_the_size_of_the_images(colors, name):
    compare(colors, preset(name, 32), 24, (0, 1), device="cuda", drop_last=False)


PADDED = View(32, scale=None, padding=4, erase=Erase()), View(24, scale=None, resize=30, padding=4)


def test_erasing_and_padding_compiled_for_the_processor(colors):
    with Resident(colors, PADDED, 24, device="cpu") as ours, Loader(colors, PADDED, 24) as own, scalar_inductor():
        ours._views_of = resident.compiled(ours._renderer)
        same(ours.epoch(0), own.epoch(0))


@needs_cuda
def test_erasing_and_padding_on_a_gpu(colors):
    compare(colors, PADDED, 20, (0, 1), device="cuda", drop_last=False)
