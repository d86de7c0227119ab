"""The page of nearest neighbors: complete HTML with its pictures inside, in which every text is escaped."""

from html.parser import HTMLParser

import numpy as np

from twoview.bench.evaluation.neighbors import Neighbors
from twoview.reports.neighbors import render, sentence, write

HOSTILE = "<script>alert(1)</script>\"'&\u202e.png"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Reads a page, and fails unless every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


def found(path=("a.png", "b.png", "c.png"), label=(None, None, None), encoder="an encoder"):
    row, cosine = np.array([[2, 1], [0, 1]]), np.array([[0.98765, -0.5], [0.98765, 0.25]], np.float32)
    return Neighbors(encoder, "pets", path, label, np.array([0, 2]), row, cosine)


PICTURES = {row: bytes([255, row]) for row in range(3)}


def test_the_page_shows_each_query_with_its_neighbors():
    page = Page(render(found(), PICTURES))
    assert page.all("html") == [{"lang": "en-US"}] and len(page.all("title")) == len(page.all("h1")) == 1
    alts = [image["alt"] for image in page.all("img")]
    assert alts[:3] == ["query: a.png", "neighbor 1: c.png", "neighbor 2: b.png"]
    assert alts[3:] == ["query: c.png", "neighbor 1: a.png", "neighbor 2: b.png"]
    addresses = ["data:image/jpeg;base64,/wA=", "data:image/jpeg;base64,/wI=", "data:image/jpeg;base64,/wE="]
    assert [image["src"] for image in page.all("img")][:3] == addresses
    text = [one for one in page.text if one]
    assert text[text.index("query") :][:6] == ["query", "a.png", "0.988", "c.png", "-0.500", "b.png"]
    assert len(page.all("h2")) == len(page.all("section")) == 2


def test_the_page_loads_nothing():
    page = Page(render(found(), PICTURES))
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.seen} and "url(" not in "".join(page.text)
    named = [value for _, attributes in page.seen for name, value in attributes.items() if name in ("src", "href")]
    assert named and all(value.startswith("data:image/jpeg;base64,") for value in named)


def test_names_of_files_classes_and_encoders_are_escaped():
    page = Page(render(found((HOSTILE,) * 3, (HOSTILE,) * 3, HOSTILE), PICTURES))
    assert not page.all("script")
    shown = HOSTILE.replace("\u202e", "\\u202e")
    assert page.text.count(shown) == 2 + 6 and page.text.count(f"class: {shown}") == 6
    assert page.all("img")[0]["alt"] == f"query: {shown}"


def test_classes_are_shown_if_there_are_labels():
    some = found(label=("cat", None, "cat"))
    page = Page(render(some, PICTURES))
    assert page.text.count("class: cat") == 4 and "100.0 % of these have their query's class." in sentence(some)
    assert "They have no labels." in sentence(found()) and "class" not in sentence(found())
    assert sentence(some) in page.text


def test_the_page_is_a_file(tmp_path):
    write(found(), PICTURES, tmp_path / "deep" / "index.html")
    assert (tmp_path / "deep" / "index.html").read_text(encoding="utf-8") == render(found(), PICTURES)
