"""Views in a recipe: a preset's name or a table of changes, their stored form, and errors that name the key."""

import re
import tomllib
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twoview.bench.config import experiment, recipe, views
from twoview.bench.config.views import as_toml, made, numbered, stored
from twoview.loaders.loader import Loader
from twoview.loaders.ops.blur import Blur
from twoview.loaders.ops.erase import Erase
from twoview.loaders.ops.jitter import Jitter
from twoview.loaders.ops.solarize import Solarize
from twoview.loaders.presets import PRESETS, preset
from twoview.loaders.views import OPS, View
from twoview.methods import registry

SIZE = 32
RECIPE = """
source = "a test"
dataset = "fashion-mnist"
size = {size}
epochs = 4
batch = 32
train_images = 128
{views}
[method]
name = "simclr"
[backbone]
width = 8
"""


@pytest.fixture
def loaded(tmp_path):
    """A function: the views in a recipe's file, other lines, and the size -> the recipe."""

    def load(text, more="", size=28):
        path = tmp_path / "mine.toml"
        path.write_text(RECIPE.format(views=more + text, size=size))
        return recipe.load(str(path))

    return load


share, amount = st.floats(0, 1), st.floats(0, 4)
above_0 = st.floats(2**-10, 1)
whole = st.integers(0, 255)
# Key of the table -> field of `View`, and values of all settings of an op, or of the field.
RANGES = {"crop_scale": "scale", "crop_ratio": "ratio"}
NUMBERS = {"flip": share, "gray": share, "interpolation": st.sampled_from(["bilinear", "bicubic"])}
SETTINGS = {
    "jitter": (
        Jitter,
        {"brightness": amount, "contrast": amount, "saturation": amount, "hue": st.floats(0, 0.5), "p": share},
    ),
    "blur": (
        Blur,
        {
            "sigma_min": above_0,
            "sigma_max": st.floats(2, 9),
            "kernel": st.integers(1, 13).map(lambda n: 2 * n + 1),
            "p": share,
        },
    ),
    "solarize": (Solarize, {"threshold": st.integers(0, 256), "p": share}),
    "erase": (
        Erase,
        {
            "scale_min": st.floats(0, 0.02),
            "scale_max": st.floats(0.33, 1),
            "ratio_min": st.floats(0.1, 0.3),
            "ratio_max": st.floats(3.3, 9),
            "level": whole,
            "p": share,
        },
    ),
}


@st.composite
def changes(draw):
    """A preset, and a change of one key: (preset, key, value in the table, function from a view to its changed field).

    The function returns None for a view that cannot be changed in this way.
    """
    name, key = draw(st.sampled_from(sorted(PRESETS))), draw(st.sampled_from([*RANGES, *NUMBERS, *SETTINGS]))
    if key in RANGES:
        ends = sorted(draw(st.tuples(above_0, above_0)))
        return name, key, ends, lambda view: view.scale and {RANGES[key]: tuple(ends)}
    if key != "interpolation" and draw(st.booleans()):
        return name, key, False, lambda view: {key: None if key in SETTINGS else 0.0}
    if key in NUMBERS:
        value = draw(NUMBERS[key])
        return name, key, value, lambda view: {key: value}
    kind, values = SETTINGS[key]
    some = draw(st.fixed_dictionaries({}, optional=values))

    def settings(view):
        before = getattr(view, key)
        if before:
            return {key: before._replace(**some)}
        whole = kind is Erase or len(some) == len(values)
        return {key: kind(**some)} if whole else None

    return name, key, some, settings


def test_every_op_has_a_test():
    assert {*SETTINGS, *NUMBERS} == {"flip", *OPS, "interpolation"}


@given(changes(), st.booleans())
def test_a_change_of_any_key_of_any_preset_changes_that_field_and_nothing_else(change, of_one):
    """In every view, or in the last one alone. Where a view lacks what is to be changed, the error names the key."""
    name, key, value, field = change
    before = preset(name, SIZE)
    table = {"preset": name, str(len(before)): {key: value}} if of_one else {"preset": name, key: value}
    affected = before[-1:] if of_one else before
    fields = [field(view) for view in affected]
    if not all(fields):
        with pytest.raises(ValueError, match=rf"^views\.({len(before)}\.)?{key} must (also have|be left out)"):
            made(stored(table), SIZE)
        return
    after = tuple(replace(view, **new) for view, new in zip(affected, fields, strict=True))
    assert made(stored(table), SIZE) == (before[:-1] + after if of_one else after)


@given(st.lists(changes(), min_size=1, max_size=4), st.integers(1, 2))
def test_a_recipe_with_a_table_stays_the_same_when_it_is_stored_and_loaded(several, number):
    table = {"preset": "vicreg"} | {key: value for _, key, value, _ in several[1:]}
    table |= {str(number): {several[0][1]: several[0][2]}}
    plain = recipe.load("quick-cifar10").model_dump(mode="json")
    one = recipe.parse(plain | {"views": table}, "a table")
    again = recipe.parse(one.model_dump(mode="json"), "stored")
    assert again == one and experiment.views_of(again) == experiment.views_of(one)
    assert tomllib.loads(f"views = {as_toml(one.views)}")["views"] == one.views
    assert stored(one.views) == one.views


def test_every_recipe_of_the_package_keeps_its_preset_as_a_name():
    for path in recipe.all_files():
        one = recipe.load(str(path))
        text = tomllib.loads(path.read_text())
        given = text.get("views") or tomllib.loads(recipe.find(text["base"]).read_text())["views"]
        assert one.views == one.model_dump(mode="json")["views"] == given and isinstance(given, str)
        assert made(one.views, one.size) == preset(given, one.size)
        kind = registry.entry(one.method.name).method
        used = kind.views_for(one.method, preset(given, one.size))
        assert tuple(view for _, view in numbered(one.views, one.size, one.method)) == used


def test_a_table_without_changes_is_stored_as_the_name(loaded):
    plain = loaded('views = "simclr-gray"')
    assert loaded('[views]\npreset = "simclr-gray"\n[views.2]\n') == plain and plain.views == "simclr-gray"
    assert recipe.with_values(plain, {"views.preset": "crops"}).views == "crops"


def test_a_table_changes_all_views_and_then_single_ones(loaded):
    one = loaded("""[views]
        preset = "vicreg"
        blur = false
        crop_scale = [0.2, 1]
        jitter.hue = 0.05
        [views.2]
        solarize = false
        jitter = {p = 1}""")
    first, second = (replace(view, blur=None, scale=(0.2, 1.0)) for view in preset("vicreg", 28))
    first = replace(first, jitter=Jitter(0.4, 0.4, 0.2, 0.05, 0.8))
    second = replace(second, jitter=Jitter(0.4, 0.4, 0.2, 0.05, 1.0), solarize=None)
    assert experiment.views_of(one) == (first, second) == experiment.build_method(one).views


def test_a_blur_that_is_off_leaves_the_rest_of_the_pixels(loaded, fashion):
    """The loader draws the other ops as before, and a table that repeats the preset's value changes no pixel."""
    name, same, off = (
        loaded(f"views = {text}").views
        for text in (
            '"simsiam"',
            '{preset = "simsiam", flip = 0.5}',
            '{preset = "simsiam", blur = false}',
        )
    )

    def pixels(of):
        with Loader(fashion, of, 16, seed=3, shuffle=False) as loader:
            return torch.cat(next(loader.epoch(0)).views)

    plain = pixels(preset("simsiam", 28))
    assert torch.equal(pixels(made(name, 28)), plain) and torch.equal(pixels(made(same, 28)), plain)
    sharp = pixels(tuple(replace(view, blur=None) for view in preset("simsiam", 28)))
    assert torch.equal(pixels(made(off, 28)), sharp) and not torch.equal(sharp, plain)


def test_an_op_that_the_preset_lacks_is_turned_on(loaded):
    one = loaded("""[views]
        preset = "crops"
        erase = {}
        blur = {sigma_min = 0.1, sigma_max = 2, kernel = 3, p = 0.5}""")
    assert experiment.views_of(one) == (View(28, erase=Erase(), blur=Blur(0.1, 2.0, 3, 0.5)),) * 2


SIMCLR = '[views]\npreset = "simclr-imagenet"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{SIMCLR}jitter.hue = 0.9", "views.jitter.hue must be from 0 to 0.5 turns, got 0.9"),
        (f"{SIMCLR}jitter.hue = false", "views.jitter.hue must be a valid number, got False"),
        (f"{SIMCLR}jitter.p = 2", "views.jitter.p must be less than or equal to 1, got 2"),
        (f"{SIMCLR}jitter = 0.5", "views.jitter must be false or a table, got 0.5"),
        (f"{SIMCLR}jitter = true", "views.jitter must be false or a table, got True"),
        (f"{SIMCLR}jitter.contrast = -1", "views.jitter: brightness, contrast .* must be 0 or above, got 0.8, -1.0"),
        (f"{SIMCLR}jitter.huge = 0.1", "unknown key of views.jitter 'huge': did you mean hue\\?"),
        (f"{SIMCLR}sharpness = 0.1", "unknown key of views 'sharpness': choose one of preset, crop_scale, "),
        (f"{SIMCLR}crop_sale = 0.1", "unknown key of views 'crop_sale': did you mean crop_scale\\?"),
        (f"{SIMCLR}crop_scale = [0.5, 0.2]", "views.crop_scale must be two numbers in ascending .* got \\[0.5, 0.2\\]"),
        (f"{SIMCLR}crop_scale = [0.5]", "views.crop_scale must be two numbers in ascending order, got \\[0.5\\]"),
        (f"{SIMCLR}crop_scale = [0.5, 2]", "views.crop_scale.1 must be less than or equal to 1, got 2"),
        (f"{SIMCLR}crop_ratio = [0, 2]", "views.crop_ratio.0 must be greater than 0, got 0"),
        (f"{SIMCLR}gray = true", "views.gray must be a valid number, got True"),
        (f"{SIMCLR}gray = nan", "views.gray must be .*, got nan"),
        (f"{SIMCLR}flip = -0.1", "views.flip must be greater than or equal to 0, got -0.1"),
        (f'{SIMCLR}interpolation = "nearest"', "views.interpolation must be 'bilinear' or 'bicubic', got 'nearest'"),
        (f"{SIMCLR}blur.kernel = 57", "views.blur: .* kernel must be odd, .* twice the view's size of 28 .* got 57"),
        (f"{SIMCLR}blur.kernel = 3.5", "views.blur.kernel must be a valid integer, got 3.5"),
        (f"{SIMCLR}solarize.p = 1", "views.solarize must also have threshold, since the view has no solarize"),
        (f"{SIMCLR}solarize = {{threshold = 300, p = 1}}", "views.solarize.threshold must be .* 0 to 256, got 300"),
        (f"{SIMCLR}[views.2]\njitter.hue = 1", "views.2.jitter.hue must be from 0 to 0.5 turns, got 1.0"),
        (f"{SIMCLR}[views.2]\npreset = 'byol'", "unknown key of views.2 'preset'"),
        (f"{SIMCLR}[views.3]\nflip = 0", "views.3 must be a view of simclr-imagenet, which has only 2"),
        (f"{SIMCLR}[views.0]\nflip = 0", "unknown key of views '0'"),
        (f"{SIMCLR}2 = false", "views.2 must be a table, got False"),
        ("[views]\nblur = false", "views.preset is missing"),
        ("[views]\npreset = 3", "views.preset must be the name of a preset, got 3"),
        ("[views]\npreset = 'simclr-imagnet'\nblur = false", "unknown views .* did you mean simclr-imagenet"),
        ("views = 3", "views must be the name of a preset or a table, got 3"),
        ("[views]\npreset = 'eval'\ncrop_scale = [0.2, 1]", "views.crop_scale must be left out, since .* no random"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(loaded, text, complaint):
    with pytest.raises(ValueError, match=rf"mine\.toml: {complaint}") as caught:
        loaded(text)
    assert "\n" not in str(caught.value)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from([10**400, "", "crops", "a" * 999])
)
ODD_KEYS = st.sampled_from(["preset", "1", "2", "99999", "٢", "p", "hue", "kernel", "level", "threshold", *views.KINDS])


@given(st.dictionaries(ODD_KEYS, st.recursive(ODD, lambda odd: st.lists(odd) | st.dictionaries(ODD_KEYS, odd))))
def test_odd_values_are_refused_in_a_sentence_or_can_be_stored(odd):
    try:
        kept = stored({"preset": "vicreg"} | odd)
        made(kept, SIZE)
    except ValueError as error:
        assert "views" in str(error) and len(str(error)) < 1000 and "\n" not in str(error)
    else:
        assert stored(kept) == kept and tomllib.loads(f"views = {as_toml({'x': kept})}")["views"]["x"] == kept


def test_growing_views_keep_their_changes(loaded):
    """Where a preset's kernel depends on the size, an equal number in the table stays in its own view."""
    grows = "[progressive]\nstart = 112\nlast_epoch = 2\nmultiple = 16\n"
    table = '[views]\npreset = "simclr-imagenet"\n[views.1]\nblur.kernel = 23\nflip = 0.5\n'
    one = loaded(table, grows, size=224)
    assert [[view.blur.kernel for view in experiment.views_of(one, epoch)] for epoch in (0, 3)] == [[23, 11], [23, 23]]
    with pytest.raises(ValueError, match=r"views\.1\.blur: a blur's kernel must .* size of 12 pixels, got 27"):
        loaded(table.replace("23", "27") + grows.replace("112", "12").replace("16", "4"))


def method_of(name):
    return recipe.load(name).method


def test_repeated_views_have_the_number_of_the_recipes_view():
    """MSN draws the third view several times, and balanced contrastive learning the second."""
    msn, debiased = method_of("cifar10-msn"), method_of("lee2025-cifar10-debiased-4")
    found = numbered({"preset": "msn", "3": {"gray": 0.5}}, 224, msn.model_copy(update={"focal_views": 3}))
    assert [number for number, _ in found] == [1, 2, 3, 3, 3]
    assert [view.gray for _, view in found] == [0.2, 0.2, 0.5, 0.5, 0.5]
    assert [number for number, _ in numbered("crops", 32, debiased)] == [1, 2, 2, 2, 2], "equal views are told apart"


def test_a_change_of_a_view_that_the_method_does_not_use_is_refused():
    plain = recipe.load("cifar10-msn").model_dump(mode="json")
    table = {"preset": "msn", "4": {"gray": False}}
    with pytest.raises(ValueError, match=r"^x: views\.4 must be left out, since msn does not use this view$"):
        recipe.parse(plain | {"views": table}, "x")
    assert recipe.parse(plain | {"views": {**table, "4": {}}}, "x").views == "msn"


def test_a_dotted_key_changes_one_value(loaded):
    one = loaded('views = "simsiam"')
    changed = recipe.with_values(one, {"views.jitter.hue": 0.2, "views.blur": False, "views.2.flip": 0})
    table = {"preset": "simsiam", "jitter": {"hue": 0.2}, "blur": False, "2": {"flip": 0.0}}
    assert changed.views == table and one.views == "simsiam"
    again = recipe.with_values(changed, {"views.blur.p": 1.0})
    assert again.views == table | {"blur": {"p": 1.0}} and changed.views == table
    with pytest.raises(ValueError, match=r"^mine with views\.hue 0\.2: unknown key of views 'hue'"):
        recipe.with_values(one, {"views.hue": 0.2})


def test_overrides_have_the_views_as_one_value(monkeypatch):
    """A change that the recipe's file has, and the run has not, is a difference too."""
    one = recipe.load("quick-cifar10")
    off = recipe.with_values(one, {"views.gray": False, "views.flip": 0.0})
    half = recipe.with_values(one, {"views.gray": False})
    assert recipe.overrides(off) == {"views": '{preset = "simclr-cifar", flip = 0.0, gray = false}'}
    monkeypatch.setattr(recipe, "load", lambda name: off)
    assert recipe.overrides(half) == {"views": '{preset = "simclr-cifar", gray = false}'}
    assert recipe.overrides(one) == {"views": "simclr-cifar"} and recipe.overrides(off) == {}


@pytest.mark.parametrize(
    "text", ["{", "{preset = 1", "{a = {a = " * 500, '{preset = "crops"}\nseed = 1', "{x = 1}}"], ids=repr
)
def test_words_that_are_no_table_are_refused(text):
    with pytest.raises(ValueError, match=r"^views must be the name of a preset or a TOML table, got "):
        views._from_words([text])


def test_a_record_shows_that_views_are_changed():
    assert views.in_words("simclr-cifar") == "simclr-cifar"
    assert views.in_words({"preset": "simclr-cifar", "blur": False}) == "simclr-cifar, changed"
    assert re.fullmatch(r"\{preset = .*\}", as_toml({"preset": "simclr-cifar", "blur": False}))
