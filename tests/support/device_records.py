"""Records of a GPU's figures."""

from datetime import UTC, datetime, timedelta

from twoview.bench.evidence import DeviceFigures, Figure
from twoview.bench.measurement.environment import Environment

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MACHINE = Environment(
    cpu="Zen 4",
    cpu_count=2,
    memory_gib=8.0,
    gpu=None,
    system="Linux",
    python="3.11.2",
    packages={},
    commit="",
    dirty=False,
)


def device(name, *figures, gpu="NVIDIA H100 80GB HBM3", hours=0):
    return DeviceFigures(
        name=name,
        created=NOON + timedelta(hours=hours),
        environment=MACHINE.model_copy(update={"gpu": gpu}),
        device="cuda",
        figures=list(figures),
    )


def rate(*samples):
    return Figure(work="SimCLR", quantity="training_rate", samples=list(samples))
