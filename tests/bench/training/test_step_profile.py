"""The parts of a step: for a trace with known times, for any spans compared with a loop over ticks, for a real run."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twoview.bench.training import train as training
from twoview.bench.training.step_profile import IDLE, Row, Span, Summary, divided, segments
from twoview.cli import run
from twoview.loaders import presets
from twoview.loaders.resident import Resident

spans = st.builds(
    lambda start, length, part, rank: Span(start, start + length, part, rank),
    st.integers(-5, 40),
    st.integers(0, 20),
    st.sampled_from("abc"),
    st.integers(0, 2),
)


@given(st.lists(spans, max_size=8))
def test_every_moment_has_one_owner(found):
    """Against a loop over ticks of one microsecond."""
    parts = segments(found, 0, 30)
    assert [part.start for part in parts] == [0, *(part.end for part in parts[:-1])] and parts[-1].end == 30
    for tick in range(30):
        there = [one for one in found if one.start <= tick < one.end]
        first = max(((one.rank, one.start) for one in there), default=None)
        owners = {one.part for one in there if (one.rank, one.start) == first} or {IDLE}
        assert next(part.part for part in parts if part.start <= tick < part.end) in owners


def event(category, name, start, duration, thread=1, **args):
    return {"ph": "X", "cat": category, "name": name, "ts": start, "dur": duration, "tid": thread, "args": args}


def host(first):
    """One step of 100 us from `first` on."""
    return [
        event("user_annotation", f"ProfilerStep#{first}", first, 100),
        event("user_annotation", "data wait", first + 2, 20),
        event("user_annotation", "copy", first + 5, 4),
        event("user_annotation", "forward", first + 25, 30),
        event("user_annotation", "normalize", first + 26, 5),
        event("user_annotation", "backward", first + 55, 35),
        event("user_annotation", "Optimizer.step#SGD.step", first + 56, 3),
        event("user_annotation", "backward", first, 100, thread=2),  # of another thread
    ]


def test_a_cpu_step_is_divided_by_ranges():
    step, parts, hidden = divided([*host(0), *host(100), event("cpu_op", "aten::mm", 30, 5), {"ph": "M"}])
    assert step == 100 and hidden == 0
    assert parts == {"data wait": 16, "copy": 4, "normalize": 5, "forward": 25, "backward": 35, "idle": 15}


def test_a_gpu_step_is_divided_by_its_kernels_and_copies():
    """Kernels run later than they are launched; those of the backward pass are launched from another thread."""
    launches = [
        event("cuda_runtime", "cudaMemcpyAsync", 6, 1, correlation=1),
        event("cuda_runtime", "cudaLaunchKernel", 40, 1, correlation=2),
        event("cuda_runtime", "cudaLaunchKernel", 60, 1, thread=9, correlation=3),
        event("cuda_driver", "cuLaunchKernel", 92, 1, correlation=4),
        event("cuda_runtime", "cudaLaunchKernel", -9, 1, correlation=5),
    ]
    work = [
        event("gpu_memcpy", "Memcpy HtoD", 10, 30, 7, correlation=1),  # its last 10 us overlap with the forward pass
        event("kernel", "conv", 30, 25, 7, correlation=2),
        event("kernel", "conv_backward", 55, 30, 7, correlation=3),
        event("kernel", "mean", 90, 20, 7, correlation=4),  # launched outside of all parts; cut off where the steps end
        event("kernel", "before", 0, 2, 7, correlation=5),  # of a step that was not recorded
    ]
    step, parts, hidden = divided([*host(0), *launches, *work])
    assert step == 100 and sum(parts.values()) == 100
    assert parts == {"data wait": 8, "copy": 20, "forward": 25, "backward": 30, "other": 10, "idle": 7}
    assert hidden == 10


def test_the_parts_on_the_page_add_up():
    rows = [Row("forward", 6.0, 0.6), Row("idle", 4.0, 0.4)]
    text = Summary("r", "cuda:0", 10, 10.0, 9.0, 0.5, rows, [Row("aten::mm", 5.0, 0.5, 3.0)], "r.trace.json").text
    assert text.splitlines()[3].split() == ["total", "10.00", "ms", "100.0%"]
    assert "copies hidden behind computing" in text and "aten::mm" in text


RECIPE = """
source = "a test"
dataset = "fashion-mnist"
views = "simclr-gray"
size = 28
epochs = 2
batch = 16
train_images = 160
precision = "fp32"
deterministic = true
[method]
name = "byol"
hidden = 16
projection = 8
predictor = 16
[backbone]
width = 8
"""


@pytest.fixture(scope="module")
def train(tmp_path_factory, betons):
    folder, threads = tmp_path_factory.mktemp("profile"), torch.get_num_threads()
    (folder / "r.toml").write_text(RECIPE)

    def train(out, *words):
        place = ["--out", str(folder / out), "--betons", str(betons)]
        with redirect_stdout(said := io.StringIO()):
            code = run(["train", str(folder / "r.toml"), *place, "--json", "--loss-hash", *words])
        return json.loads(said.getvalue()) if code == 0 else code

    with pytest.MonkeyPatch.context() as patched:  # the speed of this machine does not matter here
        patched.setattr(training.flops, "matrix_ceiling", lambda *args: [1e12])
        patched.setattr(training, "CEILING_ROUNDS", 1)
        yield train
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_profiling_does_not_change_the_training(train, capsys):
    watched = train("watched", "--profile")
    assert watched["loss_hash"] == train("alone")["loss_hash"]
    profile = watched["profile"]
    events = json.loads(Path(profile["trace"]).read_text())["traceEvents"]
    assert sum(one.get("name", "").startswith("ProfilerStep#") for one in events) == profile["steps"] == 10
    parts = {row["name"]: row["ms"] for row in profile["parts"]}
    assert list(parts) == [
        "data wait", "copy", "normalize", "forward", "backward", "optimizer", "after step", "checkpoint", "idle"
    ]  # fmt: skip
    assert sum(parts.values()) == pytest.approx(profile["step_ms"], rel=1e-6)
    times = [row["ms"] for row in profile["operators"]]
    assert times == sorted(times, reverse=True) and sum(times) <= profile["step_ms"]
    assert "aten::convolution_backward" in {row["name"] for row in profile["operators"]}
    page = Path(profile["trace"].replace(".trace.json", ".txt")).read_text()
    assert "backward" in page and "100.0%" in page
    # The run has finished, so no step is left to profile.
    assert train("watched", "--resume", "--profile") == 2
    assert "is trained to the end, so no step is left to profile" in capsys.readouterr().err


@pytest.mark.alone
def test_the_parts_cover_most_of_a_step_and_the_model_dominates(train):
    profile = train("timed", "--profile")["profile"]
    parts = {row["name"]: row["ms"] for row in profile["parts"]}
    assert parts["idle"] < 0.5 * profile["step_ms"]
    assert min(parts["forward"], parts["backward"]) > max(parts["copy"], parts["normalize"])


def test_too_few_steps_are_an_error(train, capsys):
    assert train("few", "--profile", "--epochs", "1") == 2
    assert "--profile needs 17 steps, and r-seed0 has only 10 left" in " ".join(capsys.readouterr().err.split())


def test_augmentation_on_the_device_has_its_own_part(fashion):
    views = presets.preset("simclr-gray", 8)
    with Resident(fashion, views, 4, device="cpu", indices=np.arange(8)) as loader, torch.profiler.profile() as seen:
        next(loader.epoch(0))
    assert "augment" in {one.key for one in seen.key_averages()}
