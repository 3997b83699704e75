"""The text of a web page, as a reader would see it."""

import re

from ..store.errors import FailedPrecondition, InvalidArgument

_HIDDEN = ["script", "style", "template", "noscript", "head"]
_BLOCKS = [
    *("address", "article", "aside", "blockquote", "dd", "div", "dl", "dt", "figcaption", "figure", "footer", "form"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table"),
    *("td", "th", "tr", "ul"),
]
_BREAK = "\x1e"
"""Stands for the end of a line while the page's own line ends, which mean nothing in HTML, become spaces."""
_SPACES = re.compile(r"[^\S\x1e]+")
_BREAKS = re.compile(r" ?\x1e ?")
_PARAGRAPHS = re.compile(r"\n{3,}")


def text_of_html(data: bytes) -> str:
    """Title and body, paragraphs kept apart, the encoding taken from the page itself.

    Raises:
        InvalidArgument: the page cannot be parsed.
        FailedPrecondition: the parser is not installed.
    """
    try:
        from bs4 import BeautifulSoup, ParserRejectedMarkup
    except ImportError as error:
        raise FailedPrecondition("reading HTML needs beautifulsoup4; pip install 'memory3[server]'") from error
    try:
        soup = BeautifulSoup(data, "html.parser")
    except ParserRejectedMarkup as error:
        raise InvalidArgument("not HTML: a declaration, '<!…', in it is none; mend it or save it as text") from error
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for hidden in soup.find_all(_HIDDEN):
        hidden.decompose()
    for block in soup.find_all(_BLOCKS):
        block.insert(0, _BREAK)
        block.append(_BREAK)
    for line_break in soup.find_all("br"):
        line_break.replace_with(_BREAK)
    body = _BREAKS.sub("\n", _SPACES.sub(" ", soup.get_text()))
    return _PARAGRAPHS.sub("\n\n", f"{title}\n\n{body}").strip()
