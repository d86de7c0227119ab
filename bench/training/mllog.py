"""The record of a training run in other harnesses' formats: MLPerf's `:::MLLOG` lines and torchtitan's metric names."""

import json
from collections.abc import Iterator
from typing import Any

from twoview.bench.evidence import Accuracy, Training


def mllog(
    recipe: dict[str, Any], training: Training, views: int, started: float, accuracy: Accuracy | None = None
) -> Iterator[str]:
    """Yield the log lines of a finished training run, in the format and with the keys of mlcommons/logging.

    recipe: the recipe in the form of a record. views: number of views per image.
    started: when training began, in seconds since 1970. The epochs follow each other from there, without the pauses
    between them (checkpoints, interruptions).
    accuracy: the probes' accuracies, if they are known already.
    """
    now = started
    # MLPerf's throughput is in images per second, while the record counts views.
    images = training.views_per_epoch // views
    yield _line(now, "POINT_IN_TIME", "submission_benchmark", recipe["name"])
    yield _line(now, "POINT_IN_TIME", "seed", recipe["seed"])
    yield _line(now, "POINT_IN_TIME", "global_batch_size", recipe["batch"])
    yield _line(now, "POINT_IN_TIME", "train_samples", images)
    yield _line(now, "POINT_IN_TIME", "opt_name", recipe["optim"]["name"])
    yield _line(now, "POINT_IN_TIME", "opt_base_learning_rate", recipe["optim"]["lr"])
    yield _line(now, "INTERVAL_START", "run_start")
    for number, seconds in enumerate(training.epoch_seconds, 1):
        yield _line(now, "INTERVAL_START", "epoch_start", epoch_num=number)
        now += seconds
        yield _line(now, "INTERVAL_END", "epoch_stop", epoch_num=number)
        yield _line(now, "POINT_IN_TIME", "tracked_stats", {"throughput": images / seconds}, epoch_num=number)
    if accuracy:
        for probe in ("knn_top1", "linear_top1"):
            share = getattr(accuracy, probe) / 100
            yield _line(now, "POINT_IN_TIME", "eval_accuracy", share, epoch_num=recipe["epochs"], probe=probe)
    yield _line(now, "INTERVAL_END", "run_stop", status="success")


def torchtitan(data_wait_share: float, mfu: float | None, reserved_mib: float | None) -> dict[str, float]:
    """Return the values that torchtitan measures too, under torchtitan's names.

    data_wait_share, mfu: shares from 0 to 1. reserved_mib: peak GPU memory that torch reserved. Values that are None,
    such as the GPU memory on a CPU, are omitted.
    """
    metrics = {
        "data_loading(%)": 100 * data_wait_share,
        "mfu(%)": None if mfu is None else 100 * mfu,
        "max_reserved(GiB)": None if reserved_mib is None else reserved_mib / 1024,
    }
    return {name: value for name, value in metrics.items() if value is not None}


def _line(seconds: float, event_type: str, key: str, value: Any = None, **metadata: Any) -> str:
    """Return one log line. seconds: the time of the event, since 1970."""
    event = {
        "namespace": "",
        "time_ms": round(seconds * 1000),
        "event_type": event_type,
        "key": key,
        "value": value,
        "metadata": metadata,
    }
    return f":::MLLOG {json.dumps(event)}"
