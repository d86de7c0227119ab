"""The model card of an exported encoder: Markdown with the front matter of the Hugging Face hub."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from twoview.bench.config.recipe import dataset_of
from twoview.bench.config.views import as_toml
from twoview.bench.evidence import AnyRecord, Probed, Probing, Run
from twoview.bench.export.export import Exported
from twoview.bench.runtime.escapes import markdown
from twoview.loaders import presets
from twoview.reports.templating import templates


class Result(NamedTuple):
    """One accuracy of the encoder: the dataset, the probe's name, the probe's result, and the record it is from."""

    dataset: str
    probe: str
    probed: Probed
    record: Run | Probing


def results(subject: Exported, records: Sequence[AnyRecord]) -> list[Result]:
    """Return the accuracies of the encoder that the records hold: those of its name and of the same recipe.

    They are those of the network that the probes evaluate, so there are none for another moving average.
    """
    if not subject.probed:
        return []
    recipe = subject.recipe.published()
    found = []
    for record in records:
        if isinstance(record, Run) and record.name == subject.name and record.recipe == recipe:
            found += [Result(subject.recipe.dataset, name, one, record) for name, one in record.accuracy.probes.items()]
        if isinstance(record, Probing) and (record.encoder, record.recipe) == (subject.name, recipe):
            found.append(Result(record.dataset, record.probe, record.probed, record))
    return found


def text(subject: Exported, records: Sequence[AnyRecord], files: Mapping[str, str]) -> str:
    """Return the model card of an encoder.

    records: evidence, in which the encoder's accuracies are looked for. files: format -> name of its file.
    """
    found = results(subject, records)
    (view,) = presets.preset("eval", subject.recipe.size)
    return (
        templates(keep_trailing_newline=True)
        .get_template("model_card.md.j2")
        .render(
            subject=subject,
            recipe=subject.recipe,
            dataset=dataset_of(subject.recipe),
            view=view,
            front_matter=_front_matter(subject, found).to_yaml().strip(),
            results=found,
            training=_training(subject, found),
            files=files,
            markdown=markdown,
        )
    )


def _front_matter(subject: Exported, found: Sequence[Result]) -> ModelCardData:
    """Return what the hub reads of a model: its library, its datasets and its accuracies."""
    recipe = subject.recipe
    return ModelCardData(
        library_name=subject.library,
        pipeline_tag="image-feature-extraction",
        tags=["self-supervised-learning", recipe.method.name, "twoview"],
        datasets=None if recipe.data else [recipe.dataset],
        model_name=subject.name if found else None,
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type=one.dataset,
                dataset_name=one.dataset,
                metric_type="accuracy",
                metric_name=f"top-1 of the probe {one.probe} (%)",
                metric_value=one.probed.top1,
            )
            for one in found
        ]
        or None,
    )


def _training(subject: Exported, found: Sequence[Result]) -> dict[str, Any]:
    """Return what the card says of the training run: name of a setting or a cost -> value."""
    recipe, training = subject.recipe, subject.training
    rows: dict[str, Any] = {
        "recipe": recipe.name,
        "source of the settings": recipe.source,
        "method": recipe.method.name,
        "views": as_toml(recipe.views),
        "epochs": subject.epoch,
        "batch": recipe.batch,
        "seed": recipe.seed,
    }
    if recipe.backbone.checkpoint:
        file = Path(recipe.backbone.checkpoint).name
        rows["weights at the start"] = f"{file} (SHA-256 {recipe.backbone.sha256})"
    if training:
        rows |= {
            "views per epoch": f"{training.views_per_epoch:,}",
            "time of training": f"{sum(training.epoch_seconds) / 60:,.1f} minutes",
            "device": f"{training.device}, {training.precision}",
            "peak device memory": _mib(training.peak_device_mib),
            "peak host memory": _mib(training.peak_host_mib),
        }
    if found:
        environment = found[0].record.environment
        rows |= {"evaluated on": environment.machine, "commit of twoview": environment.commit or "unknown"}
    return {key: value for key, value in rows.items() if value is not None}


def _mib(amount: float | None) -> str | None:
    return None if amount is None else f"{amount:,.0f} MiB"
