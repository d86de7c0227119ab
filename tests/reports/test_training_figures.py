"""Plots of the GPU suite's runs: one mark per evaluation, at the minute at which it was made."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from twoview.bench.evidence import DeviceFigures, Figure
from twoview.reports import training_figures
from twoview.reports.training_figures import training_plots


def timed(make, figures):
    return DeviceFigures(
        name="gpu-cifar10-time",
        created=datetime(2026, 3, 1, tzinfo=UTC),
        environment=make.run().environment,
        device="cuda",
        figures=figures,
    )


@pytest.fixture
def figures():
    samples = {
        "knn_accuracy": [50.0, 70.0, 80.0],
        "judged_epochs": [2.0, 4.0, 5.0],
        "elapsed_time": [60.0, 120.0, 180.0, 240.0, 330.0],
    }
    return [Figure(work="SimCLR, 5 epochs", quantity=quantity, samples=some) for quantity, some in samples.items()]


def test_the_gpu_suites_accuracy_is_drawn_over_minutes(make, figures, monkeypatch):
    drawn = []

    def canvas(rows):
        figure, axes = real(rows)
        plot = axes.plot
        monkeypatch.setattr(axes, "plot", lambda x, y, **style: (drawn.append((x, y)), plot(x, y, **style))[1])
        return figure, axes

    real = training_figures.canvas
    monkeypatch.setattr(training_figures, "canvas", canvas)
    nothing = pd.DataFrame(columns=["dataset", "machine"])
    (plot,) = training_plots([], nothing, [timed(make, figures)])
    assert drawn == [([2.0, 4.0, 5.5], [50.0, 70.0, 80.0])]
    assert plot.caption.startswith("kNN top-1 of SimCLR, 5 epochs, percent, over minutes") and "<svg" in plot.svg
    assert training_plots([], nothing, [timed(make, figures[:1])]) == []
