"""Synthetic evidence: valid records, all of whose numbers are chosen by the test or by a default here."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from twoview.bench.evidence import Accuracy, Ceilings, LoaderRates, Probed, Run, Training
from twoview.bench.measurement.environment import Environment

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


RECIPE = {
    "name": "quick",
    "dataset": "fashion-mnist",
    "source": "chosen for the test",
    "size": 32,
    "views": "simclr-small",
    "method": {"name": "simclr", "temperature": 0.5},
    "backbone": {"name": "resnet-small", "width": 32},
    "epochs": 3,
    "batch": 256,
    "precision": "bf16",
}

# Epochs of 8, 10 and 9 s, the median 9; 20,000 / 9 views/s; 2.7 of 27 s waited.
TRAINING = Training(
    epoch_seconds=[8.0, 10.0, 9.0],
    wait_seconds=[0.5, 1.2, 1.0],
    views_per_epoch=20_000,
    losses=[5.0, 4.0, 3.5, 3.25],
    precision="bf16",
    device="cpu",
    loader_threads=1,
    model_threads=2,
    peak_host_mib=900.0,
)
# Medians 5,000 and 2,500 views/s: the model is the bottleneck and 20,000 / 9 is 88.89 % of it.
CEILINGS = Ceilings(loader_views_per_s=[4_000.0, 5_000.0, 6_000.0], model_views_per_s=[2_600.0, 2_500.0, 2_400.0])


class Factory:
    """Builds records; every record is dated one hour after the one before."""

    training = TRAINING
    ceilings = CEILINGS

    def __init__(self) -> None:
        self.built = 0

    def run(
        self,
        subject: Any = "trained",
        knn: float = 79.0,
        linear: float = 81.0,
        seed: int = 0,
        name: str | None = None,
        cpu: str = "Zen 4",
        test_images: int = 5_000,
        training: Training | None = None,
        ceilings: Ceilings | None = None,
        **recipe: Any,
    ) -> Run:
        date = self._date()
        return Run(
            name=name or f"{subject}-{self.built}",
            created=date,
            environment=machine(cpu),
            subject=subject,
            recipe=RECIPE | recipe,
            seed=seed,
            accuracy=Accuracy(knn_top1=knn, linear_top1=linear, train_images=10_000, test_images=test_images),
            training=training,
            ceilings=ceilings,
        )

    def probed(self, top1: float, **fields: Any) -> Probed:
        """The result of a probe."""
        return Probed(
            **{
                "top1": top1,
                "top5": None,
                "per_class": [top1],
                "interval": (top1 - 1, top1 + 1),
                "train_images": 10,
                "test_images": 10,
                "seconds": 1,
                "peak_host_mib": 1,
            }
            | fields
        )

    def loader(
        self, rates: dict[str, list[float]], name: str | None = None, cpu: str = "Zen 4", **fields: Any
    ) -> LoaderRates:
        date = self._date()
        return LoaderRates(
            **{
                "name": name or f"loader-{self.built}",
                "created": date,
                "environment": machine(cpu),
                "beton": "photographs.beton",
                "views": "simclr-imagenet",
                "size": 224,
                "views_per_image": 2,
                "images": 256,
                "threads": 2,
                "images_per_s": rates,
                "first_batch_s": {contestant: 0.5 for contestant in rates},
            }
            | fields
        )

    def _date(self) -> datetime:
        self.built += 1
        return NOON + timedelta(hours=self.built)


def machine(cpu: str) -> Environment:
    return Environment(
        cpu=cpu,
        cpu_count=2,
        memory_gib=8.0,
        gpu=None,
        system="Linux x86_64",
        python="3.11.2",
        packages={"twoview": "0.1.0", "torch": "2.15.0"},
        commit="0123456789abcdef0123456789abcdef01234567",
        dirty=True,
    )


@pytest.fixture
def make() -> Factory:
    return Factory()


@pytest.fixture(scope="session")
def factory() -> type[Factory]:
    """For fixtures that outlive a test."""
    return Factory
