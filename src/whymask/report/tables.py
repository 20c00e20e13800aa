"""Tables that are cards on a phone: a row is a card, a cell a line of it behind the name of its column."""

import html
import re
import zlib

_HEADED = re.compile(r'(<table class="[^"]*\bcards\b)([^"]*">\s*<thead><tr>)(.*?)(?=</tr></thead>)', re.DOTALL)


def in_cards(page: str) -> str:
    """The page, in which each cell of a `table.cards` has its column's heading to show on a phone.

    The headings become rules of style, once for all rows and all tables with the same ones: they act without a script,
    and add nothing to a row.
    """
    rules: dict[str, str] = {}

    def named(table: re.Match[str]) -> str:
        labels = [_words(head) for head in re.split(r"<th\b[^>]*>", table[3])[1:]]
        name = f"c{zlib.crc32('|'.join(labels).encode('utf-8', 'replace')):x}"
        rules[name] = "".join(
            f".{name} td:nth-child({place})::before{{content:{_quoted(label)}}}"
            for place, label in enumerate(labels, start=1)
        )
        return f"{table[1]} {name}{table[2]}{table[3]}"

    page = _HEADED.sub(named, page)
    style = "@media screen and (max-width: 600px) {" + "\n".join(rules.values()) + "}\n"
    return page.replace("</style>", style + "</style>", 1) if rules else page


def _words(head: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", head)).split())


def _quoted(text: str) -> str:
    """The text as a string of CSS: what could end the string, or the style, is escaped."""
    return '"' + re.sub(r"[^\w ,.()%-]", lambda sign: f"\\{ord(sign[0]):x} ", text) + '"'
