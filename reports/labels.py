"""What a reader sees of a figure's quantity. Nothing is looked up by these words."""

from twoview.bench.evidence import Figure, Quantity

LABELS: dict[Quantity, str] = {
    "step_time": "step",
    "step_time_model_alone": "step, model alone",
    "step_rate": "rate",
    "loader_rate": "loader alone",
    "model_rate": "model alone",
    "training_rate": "real",
    "efficiency": "efficiency",
    "data_wait": "data wait",
    "warmup_time": "first steps, compiling",
    "epoch_time": "an epoch",
    "first_epoch_time": "the first epoch, compiling",
    "augmentation_time": "views of a batch, made alone",
    "speedup": "twoview / peer",
    "energy_per_view": "energy",
    "step_flops": "FLOPs of a step",
    "mfu": "model FLOPs utilization",
    "peak_device_memory": "peak memory, allocated",
    "peak_device_memory_reserved": "peak memory, reserved",
    "peak_host_memory": "peak host memory",
    "time_to_accuracy": "time to a kNN accuracy",
    "best_knn_accuracy": "kNN, the best",
    "best_weighted_knn_accuracy": "kNN, weighted, the best",
    "knn_accuracy": "kNN as it goes",
    "weighted_knn_accuracy": "kNN, weighted, as it goes",
    "judged_epochs": "epochs at each kNN",
    "elapsed_time": "training after each epoch",
    "knn_time": "a kNN accuracy of both kinds",
    "projected_gpu_hours": "pretraining on one card, projected",
    "loss_repeat_difference": "plain loss again off",
    "recorded_loss_difference": "recorded loss off",
    "loss_difference": "value off",
    "gradient_difference": "gradient off",
    "pixel_difference": "levels off",
    "differing_pixels": "values that differ",
}
# Of a quantity that a work has several of.
OF_VARIANT: dict[Quantity, str] = {
    "step_rate": "step in {}",
    "warmup_time": "first {} steps, compiling",
    "speedup": "twoview / {}",
    "peak_device_memory": "peak memory of {}, allocated",
    "time_to_accuracy": "time to {} % kNN",
}


def label(figure: Figure) -> str:
    if not figure.variant:
        return LABELS[figure.quantity]
    return OF_VARIANT.get(figure.quantity, f"{LABELS[figure.quantity]}, {{}}").format(figure.variant)
