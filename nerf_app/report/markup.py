"""HTML that cannot be broken by what it shows: plain text is escaped on its way in, markup is a type of its own."""

import html

from nerf_app.scene.paths import shown

LONGEST_TEXT = 4000  # characters of one piece of text
VOID = ("img", "input", "meta")  # elements without an end


class Html(str):
    """Markup; every other str is text."""


def text(content: object) -> Html:
    """Anything as text: one line, printable, escaped. Markup stays as it is."""
    return content if isinstance(content, Html) else Html(html.escape(shown(content, LONGEST_TEXT)))


def joined(parts: "list[object] | tuple[object, ...]") -> Html:
    """The parts in a row; None is left out."""
    return Html("".join(text(part) for part in parts if part is not None))


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """<name attribute="...">children</name>; `class_` and `aria_label` become class and aria-label.

    An attribute that is None or False is left out, one that is True stands alone.
    """
    written = "".join(f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_attribute(value)}"')
                      for key, value in attributes.items() if value is not None and value is not False)
    return Html(f"<{name}{written}>") if name in VOID else Html(f"<{name}{written}>{joined(children)}</{name}>")


def table(heads: tuple[str, ...], rows: list[tuple[object, ...]], caption: str) -> Html:
    """A table whose first column names the rows."""
    head = element("tr", *(element("th", name, scope="col") for name in heads))
    body = [element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows]
    content = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    return element("div", content, class_="table", tabindex="0", role="region", aria_label=caption)


def facts(rows: list[tuple[object, object]], class_: str = "facts") -> Html:
    """Names and what they are; rows without a value are left out."""
    pairs = [element("div", element("dt", name), element("dd", value)) for name, value in rows if value is not None]
    return element("dl", *pairs, class_=class_)


def figure(uri: str, alternative: str, caption: object, width: int, height: int) -> Html:
    """A picture with its caption; width and height in pixels keep its place before it is decoded."""
    picture = element("img", src=Html(uri), alt=alternative, width=width, height=height)
    return element("figure", picture, element("figcaption", caption))


def _attribute(value: object) -> str:
    return value if isinstance(value, Html) else text(str(value))
