"""The page: its structure, what is escaped, and that it needs nothing but itself."""

import base64
import hashlib
import html.parser
import json
import re

import numpy as np
import pages
import pytest

from metal_jax import report
from metal_jax.report import Paragraph, Report, Section

VOID = {"meta", "input", "br", "img", "link"}
KINDS = {"votes": pages.label_page, "network": pages.network_page, "exhaust": pages.exhaust_page}


class Reader(html.parser.HTMLParser):
    """The elements of a page, each with its attributes and the elements around it."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.stack, self.text = [], [], {}
        self.feed(text)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        element = (tag, dict(attrs), tuple(self.stack))
        self.elements.append(element)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if self.stack:
            self.text.setdefault(self.stack[-1], []).append(data)

    def all(self, tag):
        return [(attrs, around) for found, attrs, around in self.elements if found == tag]


@pytest.fixture(scope="module")
def texts():
    """The page of each kind."""
    return {kind: report.to_html(make()) for kind, make in KINDS.items()}


@pytest.fixture(scope="module", params=KINDS)
def text(request, texts):
    return texts[request.param]


@pytest.fixture(scope="module")
def page(text):
    return Reader(text)


def data_of(text):
    """What the scripts read."""
    found = re.findall(r'<script type="application/json" id="[^"]+">(.*?)</script>', text, re.S)
    return [json.loads(part, parse_constant=pytest.fail) for part in found]


def test_landmarks_headings_and_names(page):
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(page.all(landmark)) == 1, landmark
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(set(ids)) == len(ids)
    for tag, attrs, _ in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(attrs.get(name, "").split()) <= set(ids), (tag, attrs)
        if attrs.get("role") == "region":
            assert attrs.get("aria-label") or attrs.get("aria-labelledby")
            assert attrs["tabindex"] == "0"  # what scrolls can be scrolled by keyboard
    assert page.all("html")[0][0]["lang"] == "en"
    links = {attrs["href"] for attrs, _ in page.all("a")}
    assert "#main" in links
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    sections = [attrs["aria-labelledby"] for attrs, _ in page.all("section")]
    assert {f"#{name}" for name in sections} < links


def test_figures_have_words_and_numbers(page):
    figures = page.all("figure")
    assert figures
    swatches = [around for _, around in page.all("svg") if "ul" in around]
    drawings = [a for a, around in page.all("svg") if "figure" in around and around not in swatches]
    assert len(drawings) == len(figures)
    for attrs in drawings:
        assert attrs["role"] == "img"
        assert attrs["aria-labelledby"]
        assert attrs["aria-describedby"]
    captions = [around for _, around in page.all("figcaption")]
    tables = [around for _, around in page.all("table") if "figure" in around]
    assert len(captions) == len(tables) == len(figures)


def test_table_headers_have_a_scope(page):
    heads = page.all("th")
    assert heads
    for attrs, around in heads:
        assert attrs["scope"] == ("col" if "thead" in around else "row")
    for attrs, around in page.all("table"):
        assert "aria-labelledby" in attrs or "figure" in around


def test_nothing_from_outside_and_no_script_but_ours(text, page):
    for tag, attrs, _ in page.elements:
        assert not {"src", "srcset", "action", "formaction", "background"} & set(attrs), tag
        assert not any(name.startswith("on") for name in attrs), attrs
    assert "@import" not in text
    assert "url(" not in text
    assert not re.search(r"https?://", text)
    scripts = [attrs for attrs, _ in page.all("script")]
    assert [attrs for attrs in scripts if attrs.get("type") != "application/json"] == [{}]
    code = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    sha = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    (policy,) = (a["content"] for a, _ in page.all("meta") if "http-equiv" in a)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{sha}'"
    assert "innerHTML" not in code


def test_text_from_the_data_is_shown_and_not_run(texts):
    page = Reader(texts["votes"])
    assert page.text["h1"] == [pages.SCRIPT]
    assert pages.SCRIPT in page.text["title"]
    names = "".join(page.text["th"])
    for name in pages.NASTY[:4]:
        assert name in names
    assert not page.all("img")
    (items,) = data_of(texts["votes"])
    assert f"{pages.NASTY[2]} item 2" in {row[1] for row in items["rows"]}
    assert "<" not in re.search(r'json" id="[^"]+">(.*?)</script>', texts["votes"], re.S)[1]
    outside = re.sub(r"<(script|style)\b.*?</\1>", "", texts["votes"], flags=re.S)
    assert not set(outside) & set("\x00\x1f\u202e")  # what would turn or break the text around it


def test_each_kind_has_its_sections(texts):
    def headings(kind):
        return Reader(texts[kind]).text["h2"]

    assert headings("votes") == [
        "Overview",
        "Task tree",
        "Labelling functions",
        "Overlaps and conflicts",
        "Labels",
        "Against gold",
        "Items",
    ]
    assert {"Training", "Task tree", "Against gold", "Mistakes by vote"} < set(headings("network"))
    assert headings("exhaust") == [
        "Overview",
        "Learning curves",
        "Predicted against true",
        "Search",
        "Runs",
    ]


def test_the_same_bytes_for_the_same_input(texts):
    assert report.to_html(pages.label_page.__wrapped__()) == texts["votes"]
    assert report.to_html(pages.exhaust_page()) == texts["exhaust"]


def test_written_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    page = Report("Title", "", [Section("One", [Paragraph("text")]), Section("Empty", [])])
    report.write_html(page, path)
    before = path.read_bytes()
    assert before.decode() == report.to_html(page)
    assert b"Empty" not in before

    def fail(self, target):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="no space"):
        report.write_html(page._replace(title="Other"), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_lone_surrogates_and_numbers_that_json_lacks():
    cells = [["\ud800", float("nan")], ["b", float("inf")]]
    table = report.PagedTable("T", "", [report.Column("a"), report.Column("b", "number")], cells)
    text = report.to_html(Report("\ud800", "", [Section("One", [table])]))
    (data,) = data_of(text)
    assert data["rows"] == [["?", None], ["b", None]]


def test_items_are_thinned_out_evenly(texts):
    (items,) = data_of(report.to_html(pages.label_page(max_items=7)))
    assert len(items["rows"]) == len(items["details"]) == 7
    numbers = sorted(int(row[0]) for row in items["rows"])
    assert np.ptp(np.diff(numbers)) <= 1
    assert (numbers[0], numbers[-1]) == (0, 119)
