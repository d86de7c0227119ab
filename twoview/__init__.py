"""A benchmark suite for contrastive and self-supervised learning, bound by hardware and not by its own code.

    from twoview import Loader, open_beton, preset

    with Loader(open_beton("imagenet.beton"), preset("simclr-imagenet", 224), batch=256, threads=8) as loader:
        for batch in loader.epoch(0):
            batch.views, batch.label, batch.index

The names in `__all__` are the public API. Each is imported when it is first used, so that `import twoview` takes
milliseconds. `loaders`, `methods`, `bench` and `reports` are subpackages; in the repository they are symbolic links to
the folders with these names next to this one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twoview.bench.evidence import load as load_evidence
    from twoview.conversion import convert
    from twoview.embedding import embed
    from twoview.experiments import load_recipe, probe, train
    from twoview.exporting import export
    from twoview.loaders.beton import Beton, open_beton
    from twoview.loaders.loader import Batch, Loader
    from twoview.loaders.presets import preset
    from twoview.loaders.views import View

    __version__: str

__all__ = [
    "Batch",
    "Beton",
    "Loader",
    "View",
    "__version__",
    "convert",
    "embed",
    "export",
    "load_evidence",
    "load_recipe",
    "open_beton",
    "preset",
    "probe",
    "train",
]

# Public name -> the module that defines it, and its name there.
DEFINITIONS = {
    "Batch": ("twoview.loaders.loader", "Batch"),
    "Beton": ("twoview.loaders.beton", "Beton"),
    "Loader": ("twoview.loaders.loader", "Loader"),
    "View": ("twoview.loaders.views", "View"),
    "convert": ("twoview.conversion", "convert"),
    "embed": ("twoview.embedding", "embed"),
    "export": ("twoview.exporting", "export"),
    "load_evidence": ("twoview.bench.evidence", "load"),
    "load_recipe": ("twoview.experiments", "load_recipe"),
    "open_beton": ("twoview.loaders.beton", "open_beton"),
    "preset": ("twoview.loaders.presets", "preset"),
    "probe": ("twoview.experiments", "probe"),
    "train": ("twoview.experiments", "train"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("twoview")
    if name not in DEFINITIONS:
        raise AttributeError(f"module 'twoview' has no attribute {name!r}")
    module, attribute = DEFINITIONS[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
