"""Numbers and names as a reader wants them. `None` and non-finite numbers are shown as a dash."""

import math
from numbers import Real
from typing import Any

DASH = "–"
_SCALES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def known(value: Any) -> bool:
    """Whether `value` is a finite number, of Python or NumPy (a bool is not a number here)."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def clean(value: Any) -> Any:
    """`value` with every unprintable character of every string in it as the escape that tables have, such as \\udce9.

    File and class names come from disk: control characters, lone surrogates and direction marks would break the
    SVG, the encoding or the reading order.
    """
    if isinstance(value, str):
        return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in value)
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def number(value: Any) -> str:
    """0.9637 -> "0.964"."""
    return f"{value:,.3f}".replace("-", "−") if known(value) else DASH


def proportion(value: Any) -> str:
    """0.9812 -> "0.981": a share reads as metrics do, on every page and in every sentence, and never in percent."""
    return number(value)


def signed(value: Any) -> str:
    """0.106 -> "+0.106"."""
    return f"{value:+,.3f}".replace("-", "−") if known(value) else DASH


def key(value: Any) -> str:
    """What a column is sorted by, finer than what it shows: 0.7450090744 -> "0.74501"; nothing if unknown."""
    return f"{value:.5g}" if known(value) else ""


def count(value: Any) -> str:
    """50000 -> "50,000"; 12.5 -> "12.5"; 0.01 -> "0.01"."""
    if not known(value):
        return DASH
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def plural(number: float, what: str) -> str:
    """1, "seed" -> "1 seed"; 1200, "image" -> "1,200 images"."""
    return f"{count(number)} {what}{'' if number == 1 else 's'}"


def words(value: Any) -> str:
    """1.2e13 -> "12 T" (k, M, G, T, P, E for 10^3 to 10^18)."""
    if not known(value):
        return DASH
    for scale, letter in _SCALES:
        if abs(value) >= 0.9995 * scale:
            return f"{value / scale:.3g} {letter}" if abs(value) < 1e21 else f"{value:.2g}"
    return count(value)


def in_bytes(value: Any) -> str:
    """1.2e9 -> "1.2 GB"; 512 -> "512 B"."""
    return in_units(value, "B")


def in_units(value: Any, unit: str) -> str:
    """1.2e9, "B" -> "1.2 GB"."""
    said = words(value)
    return f"{said}{unit}" if said[-1:].isalpha() else f"{said} {unit}"


def energy(joules: Any) -> str:
    """5.4e5 -> "150 Wh"; 9e6 -> "2.5 kWh"."""
    return in_units(joules / 3600, "Wh") if known(joules) else DASH


def duration(seconds: Any) -> str:
    """3723 -> "1 h 2 min"; 72 -> "1 min 12 s"; 3.21 -> "3.2 s"."""
    if not known(seconds):
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def size(nbytes: Any) -> str:
    """12345678 -> "12.3 MB" (powers of 1000)."""
    scaled = words(nbytes)
    return scaled if scaled == DASH else f"{scaled}B" if scaled[-1].isalpha() else f"{scaled} B"


def setting_value(value: Any) -> str:
    """A value of a configuration, for a table."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(setting_value(item) for item in value) or DASH
    if isinstance(value, float):
        return f"{value:g}"
    return count(value) if known(value) and abs(value) >= 10_000 else str(value)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names: {"encoder": {"depth": 5}} -> {"encoder.depth": "5"}."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = DASH if value == {} else setting_value(value)
    return flat
