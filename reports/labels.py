"""The label that a table shows for each measured quantity. Labels are for display only."""

from twoview.bench.evidence import Figure, Quantity

LABELS: dict[Quantity, str] = {
    "step_time": "step time",
    "step_time_model_alone": "step time, model alone",
    "step_rate": "training-step throughput",
    "loader_rate": "loader alone",
    "model_rate": "model alone",
    "training_rate": "training throughput",
    "efficiency": "efficiency",
    "data_wait": "data wait",
    "warmup_time": "first steps, with compilation",
    "epoch_time": "epoch time",
    "first_epoch_time": "first epoch, with compilation",
    "augmentation_time": "time to make a batch's views, without training",
    "speedup": "twoview speedup over a peer",
    "energy_per_view": "energy per view",
    "step_flops": "FLOPs per step",
    "mfu": "model FLOPs utilization",
    "peak_device_memory": "peak device memory, allocated",
    "peak_device_memory_reserved": "peak device memory, reserved",
    "peak_host_memory": "peak host memory",
    "time_to_accuracy": "time to reach a kNN accuracy",
    "best_knn_accuracy": "best kNN accuracy",
    "best_weighted_knn_accuracy": "best weighted kNN accuracy",
    "knn_accuracy": "kNN accuracy during training",
    "weighted_knn_accuracy": "weighted kNN accuracy during training",
    "judged_epochs": "epoch of each kNN accuracy",
    "elapsed_time": "training time after each epoch",
    "knn_time": "time to compute plain and weighted kNN accuracy",
    "projected_gpu_hours": "pretraining on one card, projected",
    "loss_repeat_difference": "relative loss difference, two eager training runs",
    "recorded_loss_difference": "relative loss difference, CUDA graph vs. eager",
    "loss_difference": "relative loss difference, device vs. CPU",
    "gradient_difference": "relative gradient difference, device vs. CPU",
    "pixel_difference": "largest pixel difference, device vs. loader",
    "differing_pixels": "differing pixel values",
}
# The label of a quantity that has a variant; {} is the variant, such as a library or an accuracy in percent.
OF_VARIANT: dict[Quantity, str] = {
    "step_rate": "step throughput of {}",
    "warmup_time": "first {} steps, with compilation",
    "speedup": "twoview speedup over {}",
    "peak_device_memory": "peak device memory of {}, allocated",
    "time_to_accuracy": "training time to {} % kNN top-1",
}


def label(figure: Figure) -> str:
    """Return the label of a figure's quantity, with its variant if it has one."""
    if not figure.variant:
        return LABELS[figure.quantity]
    return OF_VARIANT.get(figure.quantity, f"{LABELS[figure.quantity]}, {{}}").format(figure.variant)
