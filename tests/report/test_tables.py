"""Tables that are cards on a phone have their headings in the page's style."""

import re

from whymask.report.tables import in_cards

PAGE = (
    "<style>b { color: red; }</style>"
    '<table class="sortable cards levels"><thead><tr><th class="num">labels a class</th><th><i>●</i> HEAD</th></tr>'
    "</thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table>"
    '<table class="plain"><thead><tr><th>other</th></tr></thead></table>'
)


def page_of(head: str) -> str:
    return PAGE.replace("HEAD", head)


def labels(page: str) -> dict[str, str]:
    """What style says before each column."""
    rules = re.findall(r'td:nth-child\((\d+)\)::before\{content:"((?:[^"\\]|\\.)*)"\}', page)
    return {place: re.sub(r"\\([0-9a-f]+) ", lambda sign: chr(int(sign[1], 16)), text) for place, text in rules}


def test_each_column_is_labelled_by_the_words_of_its_heading() -> None:
    page = in_cards(page_of("mean &amp; more"))
    assert labels(page) == {"1": "labels a class", "2": "● mean & more"}
    name = re.findall(r'<table class="sortable cards (\w+) levels">', page)[0]
    assert f".{name} td:nth-child(1)" in page and "<td>1</td><td>2</td>" in page


def test_a_heading_cannot_end_its_string_or_the_style() -> None:
    nasty = "&quot;}&lt;/style&gt;&lt;script&gt;alert(1)\\"
    page = in_cards(page_of(nasty))
    assert page.count("</style>") == 1 and "<script>" not in page
    assert labels(page)["2"] == '● "}</style><script>alert(1)\\'


def test_tables_with_the_same_headings_share_their_rules_and_other_pages_stay() -> None:
    twice = in_cards(page_of("seeds") + page_of("seeds"))
    assert twice.count("nth-child(1)") == 1 and len(set(re.findall(r"cards (\w+)", twice))) == 1
    plain = PAGE.replace("cards ", "")
    assert in_cards(plain) == plain
