"""The loader's guarantees: the same pixels in any setup, errors that are raised, and no resources left over."""

import gc
import json
import os
import pickle
import signal
import threading
import time
import weakref
from functools import partial

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.betons import damaged_beton
from twoview.loaders import presets
from twoview.loaders.beton import RAW, Stored, open_beton, write
from twoview.loaders.decode import Decoder, output_layout, view_table
from twoview.loaders.loader import Loader
from twoview.loaders.reference import Reference
from twoview.loaders.resident import Resident
from twoview.loaders.samplers import share
from twoview.loaders.views import Blur, Jitter, Solarize, View

SIMCLR = presets.preset("simclr-imagenet", 64)


def by_sample(loader, epoch=0):
    """Return sample number -> its views as one array, and its label."""
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


def test_a_damaged_jpeg_reaches_the_caller_by_number_field_and_file(photographs, tmp_path):
    file = damaged_beton(photographs, tmp_path / "a.beton", {5})
    with (
        Loader(file, SIMCLR, 8, threads=2, shuffle=False) as loader,
        pytest.raises(ValueError, match=rf"{file.path}: sample 5, field image: the JPEG cannot be decoded"),
    ):
        next(loader.epoch(0))


@pytest.mark.alone
def test_an_error_reaches_the_caller_within_a_second(photographs, tmp_path):
    """Here it takes a few milliseconds, because the first loader has compiled the kernels."""
    file = damaged_beton(photographs, tmp_path / "a.beton", {5})
    for _ in range(2):
        start = time.perf_counter()
        with Loader(file, SIMCLR, 8, threads=2, shuffle=False) as loader, pytest.raises(ValueError, match="sample 5"):
            next(loader.epoch(0))
    assert time.perf_counter() - start < 1


def test_bytes_changed_since_they_were_written_are_noticed(photographs, copy_of):
    """Also if the JPEG still decodes: here one bit among its colors is changed."""
    path = copy_of(photographs)
    content = bytearray(path.read_bytes())
    content[int(photographs.pointers[5] + photographs.sizes[5] // 2)] ^= 1
    path.write_bytes(content)
    with (
        Loader(open_beton(path), SIMCLR, 16, threads=2, shuffle=False) as loader,
        pytest.raises(ValueError, match=rf"{path}: sample 5, field image: .*checksum"),
    ):
        list(loader.epoch(0))


def test_an_exception_in_a_worker_reaches_the_caller_by_number_field_and_file(photographs, monkeypatch):
    render = Decoder.render

    def failing(self, *arguments):
        if 7 in arguments[1]:
            raise MemoryError("no room")
        return render(self, *arguments)

    monkeypatch.setattr(Decoder, "render", failing)
    with (
        Loader(photographs, SIMCLR, 16, threads=2, shuffle=False) as loader,
        pytest.raises(ValueError, match=rf"{photographs.path}: sample 7, field image: MemoryError: no room"),
    ):
        list(loader.epoch(0))


@pytest.mark.parametrize(("threads", "batch"), [(1, 12), (2, 12), (2, 8)])
def test_skip_puts_an_intact_sample_in_a_damaged_one_s_place(photographs, tmp_path, threads, batch):
    damaged = {5, 10, 11, 23}
    file = damaged_beton(photographs, tmp_path / "a.beton", damaged)
    with Loader(photographs, SIMCLR, 24, indices=np.arange(24), shuffle=False) as loader:
        expected = by_sample(loader)
    with Loader(file, SIMCLR, 24, shuffle=False, on_error="skip") as loader:
        reference = next(loader.epoch(0)).index.tolist()
    with Loader(file, SIMCLR, batch, threads=threads, shuffle=False, on_error="skip") as loader:
        batches = list(loader.epoch(0))
        assert loader.skipped == damaged
    numbers = torch.cat([batch.index for batch in batches]).tolist()
    assert numbers == reference, "whatever the threads and the batch"
    assert all(number == place or place in damaged for place, number in enumerate(numbers))
    assert not damaged & set(numbers)
    assert torch.cat([batch.label for batch in batches]).tolist() == [100 + i for i in numbers]
    for view in range(2):
        pixels = torch.cat([batch.views[view] for batch in batches])
        for row, number in enumerate(numbers):
            assert np.array_equal(pixels[row].numpy(), expected[number][0][view])


def test_skip_stays_within_the_indices_and_ends_where_nothing_is_intact(photographs, tmp_path):
    file = damaged_beton(photographs, tmp_path / "a.beton", {3, 4, 8})
    with Loader(file, SIMCLR, 3, indices=np.array([8, 3, 6]), shuffle=False, on_error="skip") as loader:
        assert next(loader.epoch(0)).index.tolist() == [6, 6, 6]
    with (
        Loader(file, SIMCLR, 3, indices=np.array([3, 4, 8]), shuffle=False, on_error="skip") as loader,
        pytest.raises(ValueError, match="none of 3 samples can be decoded"),
    ):
        next(loader.epoch(0))


def test_no_sample_stands_for_all_of_a_damaged_half(fashion, copy_of):
    """A range of the file is lost: each damaged sample is tried once, and random intact samples replace them."""
    path = copy_of(fashion)
    content = np.memmap(path, np.uint8, "r+")
    content[fashion.pointers[:1000]] ^= 1
    content.flush()
    file = open_beton(path)
    with Loader(file, (View(8),), 100, indices=np.arange(2000), shuffle=False, on_error="skip", threads=2) as loader:
        numbers = np.concatenate([batch.index.numpy() for batch in loader.epoch(0)])
        assert loader.skipped == set(range(1000))
    assert numbers.min() == 1000 and np.bincount(numbers).max() < 12, "2 in the mean"


@settings(max_examples=30)
@given(
    count=st.integers(1, 60),
    batch=st.integers(1, 9),
    world=st.integers(1, 5),
    drop_last=st.booleans(),
)
def test_the_ranks_together_see_what_one_process_sees(count, batch, world, drop_last):
    alone = share(count, batch * world, 0, 1, drop_last)
    ranks = [share(count, batch, rank, world, drop_last) for rank in range(world)]
    for number, whole in enumerate(alone):
        parts = [parts[number] for parts in ranks if number < len(parts)]
        assert [i for part in parts for i in range(count)[part]] == list(range(count)[whole])
        assert max(part.stop - part.start for part in parts) <= batch
    assert all(len(parts) <= len(alone) for parts in ranks)


def test_four_ranks_give_the_pixels_of_one(photographs):
    with Loader(photographs, SIMCLR, 12, threads=2) as loader:
        alone = list(loader.epoch(1))
    for rank in range(4):
        with Loader(photographs, SIMCLR, 3, rank=rank, world=4) as loader:
            part = list(loader.epoch(1))
        assert len(part) == len(alone)
        for mine, whole in zip(part, alone, strict=True):
            rows = slice(3 * rank, 3 * rank + 3)
            assert torch.equal(mine.index, whole.index[rows]) and torch.equal(mine.label, whole.label[rows])
            assert all(torch.equal(a, b[rows]) for a, b in zip(mine.views, whole.views, strict=True))


@pytest.mark.parametrize("handed_over", [0, 1, 3, 6])
def test_a_restart_in_mid_epoch_goes_on_bit_for_bit(photographs, handed_over):
    with Loader(photographs, SIMCLR, 8, seed=3) as loader:
        whole = list(loader.epoch(2))
        with loader.epoch(2) as batches:
            for _ in range(handed_over):
                next(batches)
            state = loader.state_dict()
    json.dumps(state)
    with Loader(photographs, SIMCLR, 4, seed=3, threads=2, rank=1, world=2) as loader:
        loader.load_state_dict(state)
        assert loader.state_dict() == state
        rest = list(loader.epoch(2))
        assert len(rest) == 6 - handed_over
        for mine, expected in zip(rest, whole[handed_over:], strict=True):
            assert torch.equal(mine.index, expected.index[4:])
            assert all(torch.equal(a, b[4:]) for a, b in zip(mine.views, expected.views, strict=True))
        assert len(list(loader.epoch(3))) == 6, "the next epoch starts at its beginning"


def test_a_state_of_other_work_is_refused(fashion):
    with Loader(fashion, (View(28),), 50, seed=1) as loader:
        state = loader.state_dict()
    for key, other in {
        "seed": {"seed": 2},
        "images": {"indices": np.arange(100)},
        "global_batch": {"world": 2},
    }.items():
        with Loader(fashion, (View(28),), 50, **{"seed": 1} | other) as loader, pytest.raises(ValueError, match=key):
            loader.load_state_dict(state)


def test_an_order_of_one_s_own(fashion):
    indices = np.arange(1000, 1100)
    with Loader(fashion, (View(28),), 5, indices=indices, order=lambda epoch: np.arange(10) + 10 * epoch) as loader:
        assert len(loader) == 2
        seen = torch.cat([batch.index for batch in loader.epoch(3)]).tolist()
    assert seen == list(range(1030, 1040))


def test_early_breaks_leave_no_thread_no_decoder_and_no_memory(photographs):
    before = set(threading.enumerate())
    process = psutil.Process()
    resident = []
    with Loader(photographs, SIMCLR, 8, threads=2) as loader:
        for epoch in range(200):
            with loader.epoch(epoch) as batches:
                for _ in batches:
                    break
            resident.append(process.memory_info().rss)
        assert len(set(threading.enumerate()) - before) <= 2
    assert not set(threading.enumerate()) - before
    assert loader._workers._decoders == [] and not loader._memory
    assert resident[-1] < 1.01 * resident[99]


def test_a_loader_that_is_dropped_is_freed_and_its_threads_end(fashion):
    before = set(threading.enumerate())
    dropped = []
    for _ in range(5):
        loader = Loader(fashion, (View(8),), 50, threads=2)
        next(loader.epoch(0))
        dropped.append(weakref.ref(loader))
        del loader
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert [reference() for reference in dropped] == [None] * 5 and not set(threading.enumerate()) - before


def in_a_fork(work):
    """Return the exit code of a forked child that does the work; 9 if it hangs."""
    if child := os.fork():
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return 9
    try:
        os._exit(work())
    finally:
        os._exit(8)


def test_a_loader_that_was_used_works_in_a_forked_child_and_after_it(fashion):
    with Loader(fashion, (View(8),), 100, indices=np.arange(400), threads=2) as loader:
        begun = loader.epoch(0)
        expected = [batch.views[0].sum().item() for batch in loader.epoch(1)]
        next(begun)

        def anew():
            return 0 if [batch.views[0].sum().item() for batch in loader.epoch(1)] == expected else 1

        def on():
            with pytest.raises(RuntimeError, match="an epoch must be continued in the process that began it"):
                next(begun)
            return 0

        assert (in_a_fork(anew), in_a_fork(on)) == (0, 0)
        assert [batch.views[0].sum().item() for batch in loader.epoch(1)] == expected and len(list(begun)) == 3


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"batch": 2.0}, r"batch must be a whole number, got 2\.0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"rank": 2, "world": 2}, "rank must be from 0 to 1, got 2"),
        ({"rank": -1, "world": 2}, "rank must be from 0 to 1, got -1"),
        ({"world": 0}, "world must be at least 1, got 0"),
        ({"seed": 1.5}, r"seed must be a whole number, got 1\.5"),
        ({"seed": -1}, "seed must be from 0 to 18446744073709551615, got -1"),
        ({"seed": 2**64}, "seed must be from 0 to 18446744073709551615, got 18446744073709551616"),
        ({"indices": [0.0, 1.0]}, "indices must be whole numbers or booleans, got float64"),
        ({"indices": [[0, 1]]}, "indices must have one dimension, got 2"),
        ({"indices": [0, 2000]}, "indices must be from 0 to 1999, got 2000"),
        ({"indices": [0, -1]}, "indices must be from 0 to 1999, got -1"),
        ({"indices": [True, False]}, "boolean indices must be one for each of the 2000 samples, got 2"),
    ],
)
def test_what_a_number_must_be_is_said(fashion, changes, complaint):
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        Loader(fashion, (View(8),), **{"batch": 2} | changes)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64, list, torch.tensor])
def test_indices_of_any_whole_type(fashion, kind):
    given = kind([3, 3, 9, 200]) if kind in (list, torch.tensor) else np.array([3, 3, 9, 200], kind)
    with Loader(fashion, (View(8),), 4, indices=given, shuffle=False) as loader:
        assert next(loader.epoch(0)).index.tolist() == [3, 3, 9, 200]


def test_booleans_say_which_samples_to_use(fashion):
    wanted = fashion.labels == 7
    with Loader(fashion, (View(8),), 10, indices=wanted, shuffle=False) as loader:
        assert next(loader.epoch(0)).index.tolist() == np.flatnonzero(wanted)[:10].tolist()


def test_memory_of_batches_that_are_gone_is_used_again(fashion):
    with Loader(fashion, (View(28),), 50, threads=2) as loader:
        places = {batch.views[0].data_ptr() for epoch in range(3) for batch in loader.epoch(epoch)}
        assert len(places) <= 6, "of 120 batches"
        kept = list(loader.epoch(0))
        assert len({batch.views[0].data_ptr() for batch in kept}) == len(kept)


def test_too_few_images_for_a_batch_are_an_error(fashion):
    with pytest.raises(ValueError, match=r"10 images do not fill one batch of 16"):
        Loader(fashion, (View(28),), 16, indices=np.arange(10))


def test_every_op_at_once_agrees_with_the_decoder_called_alone(photographs):
    """The loader adds threads, order and memory, and does not change a pixel."""
    view = View(
        48, jitter=Jitter(0.8, 0.8, 0.8, 0.2, 1.0), gray=0.2, blur=Blur(0.1, 2, 5, 1.0), solarize=Solarize(99, 0.5)
    )
    samples = np.array([7, 3, 11])
    offsets, size = output_layout((view,), 3)
    out = np.empty(size, np.uint8)
    p = photographs
    with Decoder() as decoder:
        status = decoder.render(p.layout, samples, view_table((view,)), 9, 2, out, offsets, 0)
    assert not status.any()
    with Loader(photographs, (view,), 3, indices=samples, seed=9, shuffle=False, threads=2) as loader:
        batch = next(loader.epoch(2))
    assert np.array_equal(batch.views[0].permute(0, 2, 3, 1).numpy().ravel(), out)


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ({}, "a loader's state must have an epoch and batches, got {}"),
        ([1, 2], r"a loader's state must have an epoch and batches, got \[1, 2\]"),
        ({"epoch": 0, "batches": -3}, "the state's batches must be from 0 to 40, got -3"),
        ({"epoch": 0, "batches": 99999}, "the state's batches must be from 0 to 40, got 99999"),
        ({"epoch": 0, "batches": 1.0}, r"the state's batches must be a whole number, got 1\.0"),
        ({"epoch": -1, "batches": 0}, "the state's epoch must be from 0 to 9223372036854775807, got -1"),
    ],
)
def test_what_is_no_state_is_refused_and_changes_nothing(fashion, state, complaint):
    with Loader(fashion, (View(8),), 50) as loader:
        before = loader.state_dict()
        with pytest.raises(ValueError, match=f"^{complaint}$"):
            loader.load_state_dict(state)
        assert loader.state_dict() == before


@pytest.mark.parametrize("kind", [Loader, partial(Resident, device="cpu")])
def test_a_state_is_that_of_one_epoch(fashion, kind):
    with kind(fashion, (View(8),), 50) as loader:
        one, other = loader.epoch(0), loader.epoch(1)
        next(one), next(other)
        with pytest.raises(ValueError, match="a loader's state describes one epoch, but 2 are in progress"):
            loader.state_dict()
        other.close()
        next(one)
        state = loader.state_dict()
        assert (state["epoch"], state["batches"]) == (0, 2)


@pytest.mark.parametrize("kind", [Loader, partial(Resident, device="cpu")])
def test_a_closed_loader_says_so(fashion, kind):
    loader = kind(fashion, (View(8),), 50)
    begun = loader.epoch(0)
    next(begun)
    loader.close()
    for use in (lambda: loader.epoch(1), lambda: next(begun)):
        with pytest.raises(ValueError, match=r"fashion\.beton: the loader is closed"):
            use()
    loader.close()


@pytest.mark.parametrize("kind", [Loader, partial(Resident, device="cpu"), Reference])
def test_without_a_view_there_is_nothing_to_give(fashion, kind):
    with pytest.raises(ValueError, match=r"^views must have at least one entry, got none$"):
        kind(fashion, (), 50)


def test_a_file_that_is_cut_while_it_is_read_is_an_error_and_no_signal(fashion, copy_of):
    path = copy_of(fashion)
    with Loader(open_beton(path), (View(8),), 50, threads=2, shuffle=False) as loader:
        batches = loader.epoch(0)
        next(batches)
        os.truncate(path, int(fashion.pointers[1000]))
        with pytest.raises(ValueError, match=rf"{path}: sample 1000, field image: the sample's bytes cannot be read"):
            list(batches)


def test_a_pickled_beton_is_its_path_and_opens_the_file_anew(fashion, copy_of):
    path = copy_of(fashion)
    pickled = pickle.dumps(open_beton(path))
    assert len(pickled) < 500
    file = pickle.loads(pickled)
    assert np.array_equal(file.labels, fashion.labels) and file.opened.descriptor != fashion.opened.descriptor
    list(write(path, 1, lambda index: Stored(RAW, 1, 1, bytes(3), 0)))
    with pytest.raises(ValueError, match=rf"{path} has changed since it was pickled"):
        pickle.loads(pickled)


def test_betons_that_are_gone_leave_no_descriptor(fashion):
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(20):
        open_beton(fashion.path)
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_state_of_other_images_of_equal_number_is_refused(tmp_path):
    def loader(name, shade):
        pixels = np.full((8, 8, 3), shade, np.uint8).tobytes()
        list(write(tmp_path / name, 4, lambda index: Stored(RAW, 8, 8, pixels, index)))
        return Loader(open_beton(tmp_path / name), (View(8),), 2)

    with loader("a", 1) as one, loader("b", 2) as other:
        state = one.state_dict()
        with pytest.raises(ValueError, match=f"the loader's data must be {state['data']}, as in the saved state, got"):
            other.load_state_dict(state)
        other.load_state_dict({key: value for key, value in state.items() if key != "data"})
