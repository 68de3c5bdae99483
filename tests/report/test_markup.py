from html.parser import HTMLParser

import pytest

from nerf_app.report.markup import Html, element, facts, figure, joined, table, text
from tests.report.stand_in import HOSTILE


class Shape(HTMLParser):
    """The elements of some markup, and the text in them."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.names, self.words, self.attributes = [], "", {}
        self.feed(markup)
        self.close()

    def handle_starttag(self, name, attributes):
        self.names.append(name)
        self.attributes |= dict(attributes)

    def handle_data(self, data):
        self.words += data


HOSTILES = [HOSTILE, "</p><p>", '" onload="alert(1)', "&amp;", "<!--", "'><img src=x onerror=alert(1)>", "\x00\x1b[31m",
            "\u202eabc"]


@pytest.mark.parametrize("words", HOSTILES)
def test_text_makes_no_element_and_no_attribute_wherever_it_stands(words):
    shape = Shape(element("p", words, title=words))
    assert shape.names == ["p"] and set(shape.attributes) == {"title"}
    assert shape.words == shape.attributes["title"]
    assert shape.words.isprintable()
    assert Shape(table(("a", words), [(words, words)], words)).names == ["div", "table", "caption", "thead", "tr", "th", "th",
                                                                         "tbody", "tr", "th", "td"]
    assert Shape(figure("data:,", words, words, 1, 1)).names == ["figure", "img", "figcaption"]
    assert Shape(facts([(words, words)])).names == ["dl", "div", "dt", "dd"]


def test_the_markup_can_always_be_encoded():
    assert joined([text(words) for words in HOSTILES]).encode()


def test_markup_stays_as_it_is_and_what_is_none_is_left_out():
    assert joined([Html("<b>"), None, "<b>"]) == "<b>&lt;b&gt;"
    assert facts([("a", None), ("b", 0)]).count("<dt>") == 1


def test_attributes_are_spelled_as_html_spells_them():
    assert element("input", class_="a", aria_label="b", checked=True, hidden=None, disabled=False, width=3) == \
        '<input class="a" aria-label="b" checked width="3">'


def test_a_very_long_text_is_cut():
    assert len(text("x" * 100_000)) < 5000
