"""What a device's figure measures: its unit, and how two figures of it are compared, follow from the quantity."""

from typing import Literal, NamedTuple

Quantity = Literal[
    "step_time",  # of a step on a resident batch, each sample a step
    "step_time_model_alone",  # the same, measured in turn with the loader and with training
    "step_rate",  # of steps on a resident batch
    "loader_rate",  # of the loader alone
    "model_rate",  # of steps on a resident batch, in turn with the loader and with training
    "training_rate",  # of training on what the loader brings
    "efficiency",  # the training rate over the smaller of the loader's and the model's
    "data_wait",  # the share of training's time in which the device waited for a batch
    "warmup_time",  # of the first steps, which compile; the variant says how many
    "epoch_time",  # of an epoch behind the first
    "first_epoch_time",  # which compiles
    "augmentation_time",  # of making a batch's views on the device while nothing trains
    "speedup",  # our rate over that of the library that the variant names
    "energy_per_view",
    "step_flops",  # of a step's forward and backward pass, counted
    "mfu",  # model FLOPs utilization: of a large matrix product's measured FLOP/s
    "peak_device_memory",  # as torch allocates it
    "peak_device_memory_reserved",  # as torch takes it from the driver
    "peak_host_memory",
    "time_to_accuracy",  # of training to the kNN accuracy that the variant says, in percent
    "best_knn_accuracy",
    "best_weighted_knn_accuracy",
    "knn_accuracy",  # at each judged epoch
    "weighted_knn_accuracy",  # at each judged epoch
    "judged_epochs",  # the epochs after which accuracies were measured
    "elapsed_time",  # of training, after each epoch
    "knn_time",  # of one judgment by kNN
    "projected_gpu_hours",  # of a whole pretraining on one card
    "loss_repeat_difference",  # relative, of two plain trainings
    "recorded_loss_difference",  # relative, of a recorded step and a plain one
    "loss_difference",  # relative, of device and processor
    "gradient_difference",  # relative, of device and processor
    "pixel_difference",  # the largest, of views made on the device and by the loader
    "differing_pixels",  # the share of such values that are not equal
]


class Kind(NamedTuple):
    """unit: of every sample. better: which way the quantity has to go, None where records are not compared by it.

    course: whether the samples are of one thing as it went on, and not repeats.
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
