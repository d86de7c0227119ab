"""The quantities that a figure of a device record can measure.

The quantity determines the figure's unit and how its figures are compared.
"""

from typing import Literal, NamedTuple

# A resident batch is one that already lies on the device, so that steps on it do not need the loader. The variant of a
# figure (`Figure.variant`) tells apart several figures of one quantity.
Quantity = Literal[
    "step_time",  # time of a step on a resident batch; each sample is one step
    "step_time_model_alone",  # the same, measured in turn with the loader alone and with training
    "step_rate",  # rate of steps on a resident batch
    "loader_rate",  # rate of the loader alone
    "model_rate",  # rate of steps on a resident batch, measured in turn with the loader alone and with training
    "training_rate",  # rate of training on the loader's batches
    "efficiency",  # training rate over the smaller of loader rate and model rate
    "data_wait",  # share of the training time in which the device waited for a batch
    "warmup_time",  # time of the first steps, which includes compiling; the variant is their number
    "epoch_time",  # time of each epoch after the first
    "first_epoch_time",  # time of the first epoch, which includes compiling
    "augmentation_time",  # time to make a batch's views on the device while nothing trains
    "speedup",  # our rate over the rate of the library that the variant names
    "energy_per_view",
    "step_flops",  # counted floating-point operations of a step's forward and backward pass
    "mfu",  # model FLOPs utilization: a step's FLOP/s as a share of the FLOP/s of a large matrix product
    "peak_device_memory",  # memory that torch had allocated
    "peak_device_memory_reserved",  # memory that torch's allocator had taken from the driver, in use or not
    "peak_host_memory",
    "time_to_accuracy",  # training time until kNN reached the accuracy that the variant gives in percent
    "best_knn_accuracy",
    "best_weighted_knn_accuracy",
    "knn_accuracy",  # at each of the judged epochs
    "weighted_knn_accuracy",  # at each of the judged epochs
    "judged_epochs",  # the epochs after which accuracies were measured
    "elapsed_time",  # training time until the end of each epoch
    "knn_time",  # time of one kNN evaluation
    "projected_gpu_hours",  # GPU hours of a whole pretraining run on one card, projected from measured steps
    "loss_repeat_difference",  # relative difference between the losses of two training runs without CUDA graphs
    "recorded_loss_difference",  # relative difference between the losses with and without a CUDA graph of the step
    "loss_difference",  # relative difference between the losses on the device and on the CPU
    "gradient_difference",  # relative difference between the gradients on the device and on the CPU
    "pixel_difference",  # largest difference between views made on the device and views made by the loader
    "differing_pixels",  # share of the values in these views that are not equal
]


class Kind(NamedTuple):
    """How to read the samples of a quantity.

    unit: the unit of every sample.
    better: which direction is an improvement; None if records are not compared by this quantity.
    course: whether the samples follow one training run over time, instead of repeating one measurement.
    """

    unit: str
    better: Literal["less", "more"] | None = None
    course: bool = False


KINDS: dict[Quantity, Kind] = {
    "step_time": Kind("ms", "less"),
    "step_time_model_alone": Kind("ms", "less"),
    "step_rate": Kind("views/s", "more"),
    "loader_rate": Kind("views/s", "more"),
    "model_rate": Kind("views/s", "more"),
    "training_rate": Kind("views/s", "more"),
    "efficiency": Kind("%"),
    "data_wait": Kind("%"),
    "warmup_time": Kind("s", "less"),
    "epoch_time": Kind("s", "less"),
    "first_epoch_time": Kind("s", "less"),
    "augmentation_time": Kind("ms", "less"),
    "speedup": Kind("x"),
    "energy_per_view": Kind("J/view"),
    "step_flops": Kind("FLOP"),
    "mfu": Kind("%"),
    "peak_device_memory": Kind("GiB", "less"),
    "peak_device_memory_reserved": Kind("GiB", "less"),
    "peak_host_memory": Kind("MiB", "less"),
    "time_to_accuracy": Kind("min"),
    "best_knn_accuracy": Kind("%"),
    "best_weighted_knn_accuracy": Kind("%"),
    "knn_accuracy": Kind("%", course=True),
    "weighted_knn_accuracy": Kind("%", course=True),
    "judged_epochs": Kind("epochs", course=True),
    "elapsed_time": Kind("s", course=True),
    "knn_time": Kind("s", "less"),
    "projected_gpu_hours": Kind("GPU-hours"),
    "loss_repeat_difference": Kind("x"),
    "recorded_loss_difference": Kind("x"),
    "loss_difference": Kind("x"),
    "gradient_difference": Kind("x"),
    "pixel_difference": Kind("of 255"),
    "differing_pixels": Kind("%"),
}
