"""Numbers as people read them."""

_STEPS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def size(count: float) -> str:
    """Bytes in decimal units: 1500000 → "1.5 MB"."""
    for unit, scale in _STEPS:
        if count >= scale:
            return f"{_three_digits(count / scale)} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """75 → "1 min 15 s"; below a second "under 1 s"."""
    if seconds < 1:
        return "under 1 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def counted(number: int, noun: str) -> str:
    """1, "document" → "1 document"; 1200 → "1,200 documents"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def draws(number: int) -> str:
    """39 → "39 draws, whose range holds one more such draw in 95 % of cases"; of one draw there is no range."""
    level = f"{100 * (number - 1) / (number + 1):.3g} %"
    held = f", whose range holds one more such draw in {level} of cases" if number > 1 else ""
    return counted(number, "draw") + held


def _three_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
