"""The command `views`: a picture of what a recipe's network sees."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from twoview.bench.config import recipe as recipes
from twoview.bench.config.experiment import place_of
from twoview.bench.training import contact_sheet
from twoview.commands.numbers import at_least
from twoview.commands.output import show
from twoview.commands.settings import recipe_in, with_settings

FLAGS = {"--json", "--help", "-h"}  # options of `run` without value


def command(words: Sequence[str]) -> Callable[..., None]:
    """Return `run` with an option for each field of the recipe in `words`, or with its own options if there is none."""
    named = recipe_in(words, FLAGS)
    start = recipes.load(named) if named else None

    def run(
        recipe: Positional[str],
        out: Path = Path("out/train"),
        images: int = 8,
        betons: Path | None = None,
        data_root: Path | None = None,
        json: bool = False,
        *,
        settings: Annotated[Any, arg(name="")] = start,
    ) -> None:
        """Draw the views of a recipe's first training images. RECIPE --help lists its fields, each an option.

        The contact sheet has a row for each image: the image, then its views as the loader makes them in the first
        epoch. Patches that the method hides are dim.

        Args:
            recipe: a name from `twoview list recipes`, or a TOML file.
            out: folder of the contact sheet, OUT/NAME-seedSEED-views.png.
            images: number of images, at most one batch.
            betons: folder of the beton files; OUT/betons by default.
            data_root: folder of your datasets; TWOVIEW_DATA by default.
            json: print the result as JSON.
        """
        at_least(1, images=images)
        checked = recipes.parse(settings.model_dump(mode="json", warnings=False), recipe)
        path = contact_sheet.write(checked, place_of(out, betons, data_root), out, images)
        show({"contact_sheet": str(path)}, json, str(path))

    return with_settings(run, start)
