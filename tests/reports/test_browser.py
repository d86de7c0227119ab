"""The page in a real browser, from a file: headless Chromium sorts, filters and draws it without errors."""

import re
import shutil
from pathlib import Path

import pytest

from twoview.bench.evidence import write
from twoview.reports.report import write_report

SCREENSHOTS = Path(__file__).parents[2] / "out" / "page"  # kept, to be looked at
HOSTILE = "<img src=x onerror=alert(1)>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: `make test-page` installs Debian's")


@pytest.fixture(scope="module")
def address(factory, tmp_path_factory):
    """The address of a page with three methods, one with a hostile name, over three seeds."""
    make, folder = factory(), tmp_path_factory.mktemp("evidence")
    for number, method in enumerate(("simclr", "kernel-infonce", HOSTILE)):
        for seed in range(3):
            training = make.training.model_copy(
                update={
                    "logged": {"online_knn_top1": [50.0 + 5 * number + seed, 70.0 + seed, 82.0 + seed]},
                    "step_seconds": [0.1] * 200,
                }
            )
            write(
                make.run(
                    knn=70.0 + 5 * number + seed,
                    seed=seed,
                    name=f"{'simclr' if number == 0 else number}-{seed}",
                    training=training,
                    ceilings=make.ceilings,
                    views="simclr-cifar",
                    method={"name": method, "temperature": 0.5},
                    probe={"online_knn_epochs": 1},
                ),
                folder,
            )
    write(make.loader({"twoview": [1200.0, 1300.0], HOSTILE: [600.0, 610.0]}), folder)
    return write_report(folder, tmp_path_factory.mktemp("out")).files["index.html"].as_uri()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, address):
    """The page, which must have no errors and must request nothing but itself."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    wrong, asked = [], []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert wrong == [] and asked == [address]


def column(page, section, heading):
    """The texts of a column of the first table below a heading of the page, in the visible rows."""
    return page.evaluate(
        """([section, heading]) => {
          const table = document.evaluate(`//h2[@id="${section}"]/following::table[1]`, document).iterateNext();
          const index = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent.trim() === heading);
          return [...table.tBodies[0].rows].filter(row => row.checkVisibility())
            .map(row => row.cells[index].textContent);
        }""",
        [section, heading],
    )


def test_a_click_sorts_and_a_word_filters(page):
    runs = page.locator("xpath=//h2[@id='runs']/following::table[1]")
    knn = [f"{70 + 5 * number + seed}.00" for number in range(3) for seed in range(3)]

    def shown():
        return [text.partition(" (")[0] for text in column(page, "runs", "kNN\u00a0%")]  # without the interval

    assert shown() == knn[::-1]
    heading = runs.locator("th button", has_text=re.compile(r"^kNN\s%$"))
    heading.click()
    heading.click()
    assert shown() == knn
    rates = page.locator("xpath=//h2[@id='loader']/following::table[1]").locator("th button", has_text="images/s")
    rates.click()
    assert column(page, "loader", "images/s") == ["1,250.0", "605.0"], "by value, not by text"
    rates.click()
    assert column(page, "loader", "images/s") == ["605.0", "1,250.0"]
    field = page.get_by_role("searchbox").nth(1)
    field.fill("kernel-infonce SIMCLR-cifar")
    assert column(page, "runs", "method") == ["kernel-infonce"] * 3
    field.fill("no such thing")
    assert column(page, "runs", "method") == []
    field.fill("")
    assert len(column(page, "runs", "method")) == 9


def test_a_hostile_name_is_shown_as_text(page):
    assert HOSTILE in column(page, "summary", "method")
    assert page.locator("img").count() == 0


def test_plots_have_visible_marks(page):
    page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    figures = page.locator("figure")
    captions = " ".join(figures.locator("figcaption").all_inner_texts())
    for words in ("over minutes of training", "the loader alone", "Peak memory", "time goes", "Kernels on"):
        assert words in captions
    for figure in figures.all():
        marks = figure.locator("svg path[style*='var(--accent)'], svg use[style*='var(--accent)']")
        box = marks.first.bounding_box()
        assert box and box["width"] + box["height"] > 2


def test_a_link_leads_to_every_section(page):
    links = page.locator("nav a")
    assert links.all_inner_texts() == page.locator("h2").all_inner_texts()
    links.filter(has_text="Budgets").click()
    assert page.locator("#budgets").evaluate("heading => Math.abs(heading.getBoundingClientRect().top)") < 900


def test_the_page_fits_light_and_dark_and_wide_and_narrow_screens(page):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for scheme, width, height in (("light", 1200, 900), ("dark", 360, 720)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) > 384) == (scheme == "light")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "only tables scroll sideways"
        page.locator("#runs").scroll_into_view_if_needed()
        page.screenshot(path=SCREENSHOTS / f"{scheme}-{width}.png", full_page=scheme == "light")
