"""The labels that say what a figure measures in records of schema versions 1 and 2.

Those records carry a checksum and cannot be changed, so this table stays as it is. Nothing else reads or writes the
labels; the words that a reader of a report sees are in `reports/labels.py`.
"""

import re

from twoview.bench.evidence.quantities import Quantity
from twoview.methods.settings import shown

OF_LABEL: dict[str, Quantity] = {
    "step": "step_time",
    "step, model alone": "step_time_model_alone",
    "rate": "step_rate",
    "loader alone": "loader_rate",
    "model alone": "model_rate",
    "real": "training_rate",
    "efficiency": "efficiency",
    "data wait": "data_wait",
    "an epoch": "epoch_time",
    "the first epoch, compiling": "first_epoch_time",
    "views of a batch, made alone": "augmentation_time",
    "energy": "energy_per_view",
    "FLOPs of a step": "step_flops",
    "model FLOPs utilisation": "mfu",
    "peak memory, allocated": "peak_device_memory",
    "peak memory, reserved": "peak_device_memory_reserved",
    "peak host memory": "peak_host_memory",
    "kNN, the best": "best_knn_accuracy",
    "kNN, weighted, the best": "best_weighted_knn_accuracy",
    "kNN as it goes": "knn_accuracy",
    "kNN, weighted, as it goes": "weighted_knn_accuracy",
    "epochs at each kNN": "judged_epochs",
    "training after each epoch": "elapsed_time",
    "a kNN accuracy of both kinds": "knn_time",
    "pretraining on one card, projected": "projected_gpu_hours",
    "plain loss again off": "loss_repeat_difference",
    "recorded loss off": "recorded_loss_difference",
    "value off": "loss_difference",
    "gradient off": "gradient_difference",
    "levels off": "pixel_difference",
    "values that differ": "differing_pixels",
}
# Labels that contain the variant of the quantity, as the group of the pattern.
OF_PATTERN: dict[str, Quantity] = {
    r"time to (\S+) % kNN": "time_to_accuracy",
    r"first (\d+) steps, compiling": "warmup_time",
    r"step in (\w+)": "step_rate",
    r"twoview / (\w+)": "speedup",
    r"peak memory of (\w+), allocated": "peak_device_memory",
}


def meant(label: str) -> tuple[Quantity, str]:
    """Return the quantity that a label means, and its variant, which is empty if the label has none.

    Raises ValueError for a label that no version of twoview wrote.
    """
    if quantity := OF_LABEL.get(label):
        return quantity, ""
    for pattern, quantity in OF_PATTERN.items():
        if found := re.fullmatch(pattern, label):
            return quantity, found[1]
    raise ValueError(f"figure must be a label of schema version 1 or 2, got {shown(label)}")
