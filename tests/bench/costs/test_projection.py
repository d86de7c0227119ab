"""Projections: by hand for equal steps, refused for too few steps, and with intervals that cover the true median."""

import numpy as np
import pytest

from twoview.bench.config import recipe
from twoview.bench.costs import projection as budget
from twoview.bench.evidence import Accuracy, DeviceFigures, Figure, LoaderRates, Run, Training
from twoview.bench.measurement.environment import environment

LEE = recipe.load("lee2025-imagenet-simclr")


def test_the_projection_is_the_number_of_steps_times_their_duration():
    """1,281,167 images make 2,502 full batches of 512; 100 epochs at half a second per step."""
    whole = budget.projection(LEE, [0.5] * 30)
    assert (whole.steps, whole.measured, whole.seconds) == (250_200, 30, 0.5)
    assert whole.hours == whole.low == whole.high == pytest.approx(250_200 * 0.5 / 3600)
    waiting = budget.projection(LEE, [0.5] * 30, idle=0.2)
    assert waiting.hours == pytest.approx(whole.hours / 0.8) and waiting.seconds == 0.625
    held_out = recipe.load("tan2024-cifar10-simclr-400")
    assert budget.steps_an_epoch(held_out) == 45_000 // 256


def test_too_few_steady_steps_are_refused_with_their_number():
    with pytest.raises(ValueError, match="no projection: 0 of 29 measured steps are steady, but 30 are needed"):
        budget.projection(LEE, [0.5] * 29)
    with pytest.raises(ValueError, match="29 of 34"):
        budget.projection(LEE, [9.0] * 5 + [0.5] * 29)
    assert budget.projection(LEE, [9.0] * 5 + [0.5] * 30).measured == 30, "steps that compile are not steady"
    with pytest.raises(ValueError, match="of 200 measured"):
        budget.projection(LEE, np.linspace(1, 3, 200).tolist())


def test_an_epoch_of_unknown_length_is_not_projected():
    with pytest.raises(ValueError, match="an epoch of 0 images has no full batch of 512"):
        budget.steps_an_epoch(LEE.model_copy(update={"held_out": 1_281_167}))
    tail = recipe.parse(LEE.model_dump(mode="json") | {"long_tail": {"ratio": 10.0}}, "r")
    with pytest.raises(ValueError, match="known only from the data"):
        budget.steps_an_epoch(tail)


def test_the_interval_covers_the_median():
    """In about 95 of 100 runs of 200 steps with a realistic spread."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        whole = budget.projection(LEE, (0.5 * np.exp(rng.normal(0, 0.08, 200))).tolist())
        held += whole.low <= 250_200 * 0.5 / 3600 <= whole.high
    assert held >= 88


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 256},
        {"size": 160},
        {"backbone": {"name": "resnet18"}},
        {"views": "simclr-imagenet"},
        {"method": {"name": "byol"}},
        {"optim": {"name": "lars", "lr": 1.0}},
        {"progressive": {"start": 160, "first_epoch": 1, "last_epoch": 50}},
    ],
)
def test_settings_that_change_a_step_make_it_incomparable(changes):
    other = recipe.parse(LEE.model_dump(mode="json") | changes, "r")
    assert budget.cost_of(other) != budget.cost_of(LEE)


def test_some_settings_do_not_change_a_step():
    free = {"name": "x", "dataset": "imagenet-lt", "epochs": 1, "seed": 7, "precision": "bf16", "compile": "default"}
    assert budget.cost_of(recipe.parse(LEE.model_dump(mode="json") | free, "r")) == budget.cost_of(LEE)


def trained(**fields):
    training = Training(
        **{
            "epoch_seconds": [20.0, 20.0], "wait_seconds": [2.0, 2.0], "views_per_epoch": 16 * 1024, "losses": [1.0],
            "precision": "bf16", "device": "cuda:0", "loader_threads": 1, "model_threads": 1, "peak_host_mib": 2048.0,
            "peak_device_mib": 4096.0, "step_seconds": [0.5] * 32, "step_flops": 10**12,
            "matrix_flops_per_s": [4e12], "joules": 6400.0,
        }
        | fields
    )  # fmt: skip
    accuracy = Accuracy(knn_top1=1.0, linear_top1=1.0, train_images=1, test_images=1)
    return Run(
        name="r", subject="trained", recipe=LEE.model_dump(mode="json"), seed=0, accuracy=accuracy, training=training,
        environment=environment().model_copy(update={"gpu": "H100"}),
    )  # fmt: skip


def test_the_steps_of_a_run_are_found():
    steps = budget.measured(trained())
    assert (steps.device, steps.gpus, steps.views, steps.memory_gib, steps.joules) == ("H100", 1, 1024, 4.0, 200.0)
    assert steps.idle == 0.1 and steps.mfu == 0.5 and steps.precision == "bf16"
    two = budget.measured(trained(rank_wait_seconds=[[2.0, 2.0], [1.0, 1.0]]))
    assert two.gpus == 2 and two.joules == 400.0
    cpu = budget.measured(trained(device="cpu", peak_device_mib=None, joules=None))
    assert (cpu.device, cpu.gpus, cpu.memory_gib, cpu.joules) == ("CPU", 0, 2.0, None)
    assert budget.measured(trained(step_seconds=[])) is None


def test_the_steps_of_the_gpu_suite_are_found():
    def of(**samples):
        figures = [Figure(work="w", quantity=quantity, samples=s) for quantity, s in samples.items()]
        one = LEE.model_dump(mode="json") | {"precision": "bf16"}
        return budget.measured(DeviceFigures(name="d", device="cuda", figures=figures, recipe=one))

    alone = of(step_time=[500.0, 500.0], step_rate=[2048.0], energy_per_view=[0.5], step_flops=[1e12])
    assert (alone.idle, alone.views, alone.joules, alone.flops, alone.gpus) == (None, 1024, 512.0, 1e12, 1)
    both = of(step_time_model_alone=[400.0], model_rate=[2560.0], training_rate=[2048.0], peak_device_memory=[9.5])
    assert both.idle == pytest.approx(0.2) and both.views == 1024 and both.memory_gib == 9.5
    assert of(loader_rate=[1.0]) is None


def test_a_loaders_rates_have_no_steps():
    rates = LoaderRates(
        name="l", beton="b", views="v", size=224, views_per_image=2, images=8, threads=1,
        images_per_s={"twoview": [100.0]}, first_batch_s={},
    )  # fmt: skip
    assert budget.measured(rates) is None
