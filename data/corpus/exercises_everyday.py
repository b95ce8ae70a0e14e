"""Exercises in words: units, clock times, chances, small stories. Each returns (question, answer)."""

import random
from fractions import Fraction

from exercises_numbers import written

UNITS = [
    ("meters", "centimeters", 100),
    ("kilometers", "meters", 1000),
    ("hours", "minutes", 60),
    ("days", "hours", 24),
    ("kilograms", "grams", 1000),
    ("litres", "millilitres", 1000),
    ("minutes", "seconds", 60),
    ("weeks", "days", 7),
    ("tonnes", "kilograms", 1000),
    ("centimeters", "millimeters", 10),
    ("decades", "years", 10),
]
NAMES = "Anna Ben Clara David Elena Farid Grace Hugo Ines Jonas Kim Lena Marco Nadia Omar Petra Quinn Rosa Sam Tara"
THINGS = "apples books pencils coins marbles stickers tickets cards shells stamps eggs bottles"
MINUTES_A_DAY = 1440


def units(r: random.Random) -> tuple[str, str]:
    """A length, time, weight or volume in another unit."""
    large, small, factor = r.choice(UNITS)
    x = Fraction(r.randint(1, 9999), r.choice([1, 1, 10, 100]))
    if r.random() < 0.6:
        return f"How many {small} are there in {written(x)} {large}?", written(x * factor)
    n = r.randint(1, 999) * factor
    return f"What is {n} {small} in {large}?", str(n // factor)


def clock(r: random.Random) -> tuple[str, str]:
    """A time some minutes later, or the minutes between two times of a day."""
    hour, minute, passed = r.randint(1, 12), r.randint(0, 59), r.randint(1, 700)
    half = r.choice(["AM", "PM"])
    start = (hour % 12 + (12 if half == "PM" else 0)) * 60 + minute
    end = (start + passed) % MINUTES_A_DAY

    def shown(t: int) -> str:
        return f"{(t // 60 - 1) % 12 + 1}:{t % 60:02d} {'AM' if t < MINUTES_A_DAY // 2 else 'PM'}"

    if r.random() < 0.5:
        return f"What is {passed} minutes after {shown(start)}?", shown(end)
    return f"How many minutes are there between {shown(start)} and {shown(end)}?", str(passed)


def probability(r: random.Random) -> tuple[str, str]:
    """The chance of a sequence of letters drawn without replacement."""
    letters = r.sample("abcdefghijklmnopqrstuvwxyz", r.randint(2, 5))
    bag = [r.choice(letters) for _ in range(r.randint(5, 14))]
    count = r.randint(2, 3)
    drawn = [r.choice(bag) for _ in range(count)]
    left = {letter: bag.count(letter) for letter in bag}
    chance = Fraction(1)
    for size, letter in zip(range(len(bag), 0, -1), drawn, strict=False):
        chance *= Fraction(max(left[letter], 0), size)
        left[letter] -= 1
    number = {2: "Two", 3: "Three"}[count]
    question = f"{number} letters picked without replacement from {''.join(bag)}."
    return f"{question} What is prob of sequence {''.join(drawn)}?", str(chance)


def story(r: random.Random) -> tuple[str, str]:
    """A story of two people and their things, in one step of arithmetic."""
    n, m = r.sample(NAMES.split(), 2)
    t = r.choice(THINGS.split())
    a, b, c = r.randint(3, 90), r.randint(2, 60), r.randint(2, 12)
    return (
        (f"{n} has {a} {t}. {m} gives {n} {b} more. How many {t} does {n} have now?", str(a + b)),
        (f"{n} has {a + b} {t} and gives {b} of them to {m}. How many {t} does {n} have left?", str(a)),
        (f"{n} buys {c} boxes with {b} {t} in each box. How many {t} does {n} buy?", str(b * c)),
        (f"{n} shares {b * c} {t} equally between {c} friends. How many {t} does each friend get?", str(b)),
        (f"{n} has {a} {t}. {m} has {c} times as many. How many {t} do they have together?", str(a + a * c)),
    )[r.randrange(5)]
