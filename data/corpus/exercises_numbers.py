"""Exercises about given numbers: arithmetic, divisibility, bases, rounding, order. Each returns (question, answer)."""

import math
import random
from fractions import Fraction

LETTERS = "abcdefg"
DIGITS = "0123456789abcdef"
PLACES = ["units", "tens", "hundreds", "thousands", "ten thousands", "hundred thousands", "millions", "ten millions"]
SMALL_PRIMES = [2, 2, 3, 3, 5, 7, 11, 13, 17, 19, 23, 29, 37, 41]


def integer(r: random.Random) -> int:
    """An integer of up to six digits, small ones more often."""
    digits = r.choice([1, 2, 2, 3, 3, 4, 5, 6])
    return r.choice([1, 1, -1]) * r.randint(0, 10**digits)


def decimal(r: random.Random) -> Fraction:
    """A number of up to three decimal places."""
    places = r.choice([0, 1, 1, 2, 3])
    return Fraction(integer(r), 10**places)


def written(x: Fraction) -> str:
    """Exact decimal notation of a fraction whose denominator divides a power of ten."""
    places = 0
    while (abs(x) * 10**places).denominator != 1:
        places += 1
    digits = str(int(abs(x) * 10**places))
    if places:
        digits = digits.rjust(places + 1, "0")
        digits = f"{digits[:-places]}.{digits[-places:]}"
    return f"-{digits}" if x < 0 else digits


def rounded_half_up(x: Fraction) -> int:
    """The nearest integer of a number that is not negative; halves go up."""
    return math.floor(x + Fraction(1, 2))


def addition(r: random.Random) -> tuple[str, str]:
    """A sum or difference of decimals."""
    a, b = decimal(r), decimal(r)
    operator = r.choice("+-")
    result = a + b if operator == "+" else a - b
    wording = r.choice(["Calculate {}.", "Work out {}.", "What is {}?", "{}", "Evaluate {}."])
    second = written(b) if b >= 0 else f"({written(b)})"
    return wording.format(f"{written(a)} {operator} {second}"), written(result)


def multiplication(r: random.Random) -> tuple[str, str]:
    """A product of decimals."""
    a, b = decimal(r), decimal(r)
    wording = r.choice(
        [
            "What is {} times {}?",
            "Multiply {} and {}.",
            "Product of {} and {}.",
            "Calculate {}*{}.",
            "Work out {} * {}.",
        ]
    )
    return wording.format(written(a), written(b)), written(a * b)


def division(r: random.Random) -> tuple[str, str]:
    """A quotient of integers, as an integer or a fraction."""
    b = r.choice([-1, 1, 1]) * r.randint(1, 400)
    k = r.choice([-1, 1, 1]) * r.randint(0, 900)
    a = b * k if r.random() < 0.6 else integer(r)
    wording = r.choice(["Divide {} by {}.", "What is {} divided by {}?", "Calculate {} divided by {}."])
    return wording.format(a, b), str(Fraction(a, b))


def expression(r: random.Random, depth: int) -> tuple[str, Fraction]:
    """A random expression with brackets, and its value."""
    if depth == 0 or r.random() < 0.15:
        n = r.randint(-20, 20)
        return (f"({n})" if n < 0 else str(n)), Fraction(n)
    for _ in range(20):
        (a, x), (b, y) = expression(r, depth - 1), expression(r, depth - 1)
        operator = r.choice("++--*/")
        if operator == "/" and y == 0:
            continue
        if operator == "/":
            return f"({a})/({b})", x / y
        if operator == "*":
            return f"{a}*{b}", x * y
        return f"({a} {operator} {b})", x + y if operator == "+" else x - y
    return "1", Fraction(1)


def mixed(r: random.Random) -> tuple[str, str]:
    """The value of an expression."""
    text, result = expression(r, r.choice([2, 2, 3]))
    if text.startswith("(") and text.endswith(")") and text.count("(") == 1:
        text = text[1:-1]
    wording = r.choice(["What is {}?", "Evaluate {}.", "Calculate {}.", "What is the value of {}?"])
    return wording.format(text), str(result)


def fractions(r: random.Random) -> tuple[str, str]:
    """A sum, difference or product of fractions."""
    a = Fraction(r.randint(-30, 30), r.randint(1, 20))
    b = Fraction(r.randint(-30, 30), r.randint(1, 20))
    operator = r.choice("+-*")
    result = {"+": a + b, "-": a - b, "*": a * b}[operator]
    wording = r.choice(["What is {}?", "Calculate {}.", "Simplify {}."])
    return wording.format(f"{a} {operator} {f'({b})' if b < 0 else b}"), str(result)


def greatest_common_divisor(r: random.Random) -> tuple[str, str]:
    """Greatest common divisor of two numbers."""
    g = r.randint(1, 60)
    a, b = g * r.randint(1, 60), g * r.randint(1, 60)
    wording = r.choice(
        [
            "Calculate the greatest common divisor of {} and {}.",
            "What is the highest common factor of {} and {}?",
            "What is the greatest common factor of {} and {}?",
        ]
    )
    return wording.format(a, b), str(math.gcd(a, b))


def least_common_multiple(r: random.Random) -> tuple[str, str]:
    """Least common multiple of two numbers."""
    g = r.randint(1, 30)
    a, b = g * r.randint(1, 30), g * r.randint(1, 30)
    wording = r.choice(
        ["Calculate the least common multiple of {} and {}.", "What is the smallest common multiple of {} and {}?"]
    )
    return wording.format(a, b), str(math.lcm(a, b))


def primality(r: random.Random) -> tuple[str, str]:
    """Is an odd number prime, or composite?"""
    n = r.randint(2, 20000) | 1
    prime = all(n % i for i in range(2, math.isqrt(n) + 1))
    if r.random() < 0.5:
        return f"Is {n} a prime number?", str(prime)
    return f"Is {n} composite?", str(not prime)


def prime_factors(r: random.Random) -> tuple[str, str]:
    """The distinct prime factors of a number."""
    n = 1
    while n < 10 or r.random() < 0.65:
        n *= r.choice(SMALL_PRIMES)
        if n > 200000:
            break
    factors = sorted(p for p in set(SMALL_PRIMES) if n % p == 0)
    wording = r.choice(["What are the prime factors of {}?", "List the prime factors of {}."])
    return wording.format(n), ", ".join(map(str, factors))


def remainder(r: random.Random) -> tuple[str, str]:
    """The remainder of a division."""
    b = r.randint(2, 300)
    a = r.randint(0, 60000)
    wording = r.choice(
        ["Calculate the remainder when {} is divided by {}.", "What is the remainder when {} is divided by {}?"]
    )
    return wording.format(a, b), str(a % b)


def multiples(r: random.Random) -> tuple[str, str]:
    """Does one number divide another?"""
    b = r.randint(2, 90)
    a = b * r.randint(1, 400) + (0 if r.random() < 0.5 else r.randint(1, b - 1))
    wording = r.choice(["Is {a} a multiple of {b}?", "Is {b} a factor of {a}?", "Does {b} divide {a}?"])
    return wording.format(a=a, b=b), str(a % b == 0)


def base_change(r: random.Random) -> tuple[str, str]:
    """A number in one base to be written in another."""
    n = r.randint(1, 5000)
    base = r.choice([2, 2, 3, 5, 7, 8, 16])
    other = r.choice([b for b in (2, 3, 4, 8, 10, 16) if b != base])
    return f"What is {in_base(n, base)} (base {base}) in base {other}?", in_base(n, other)


def in_base(n: int, base: int) -> str:
    """A positive number in base 2 to 16."""
    text = ""
    while n:
        text = DIGITS[n % base] + text
        n //= base
    return text


def place_value(r: random.Random) -> tuple[str, str]:
    """One digit of a number, asked for by the name of its place."""
    n = r.randint(1000, 99999999)
    place = r.randrange(min(len(str(n)), 8))
    return f"What is the {PLACES[place]} digit of {n}?", str(n)[-1 - place]


def rounding(r: random.Random) -> tuple[str, str]:
    """Rounding to a power of ten or to decimal places; halves away from zero."""
    if r.random() < 0.5:
        k = r.choice([1, 2, 3, 4])
        n = r.randint(-99999, 999999)
        result = rounded_half_up(Fraction(abs(n), 10**k)) * 10**k * (1 if n >= 0 else -1)
        unit = {1: "ten", 2: "one hundred", 3: "one thousand", 4: "ten thousand"}[k]
        return f"Round {n} to the nearest {unit}.", str(result)
    k = r.choice([1, 2, 3])
    x = Fraction(r.randint(1, 9999999), 10 ** r.choice([4, 5, 6]))
    places = {1: "one decimal place", 2: "two decimal places", 3: "three decimal places"}[k]
    return f"What is {written(x)} rounded to {places}?", written(Fraction(rounded_half_up(x * 10**k), 10**k))


def sorting(r: random.Random) -> tuple[str, str]:
    """Integers and fractions to be sorted."""
    count = r.randint(3, 7)
    numbers = [Fraction(r.randint(-90, 90), r.choice([1, 1, 1, 2, 5])) for _ in range(count)]
    up = r.random() < 0.5
    question = f"Sort {', '.join(map(str, numbers))} in {'ascending' if up else 'descending'} order."
    return question, ", ".join(map(str, sorted(numbers, reverse=not up)))


def kth_value(r: random.Random) -> tuple[str, str]:
    """The k-th biggest or smallest of a lettered list."""
    numbers = r.sample(range(-200, 200), r.randint(4, 7))
    k = r.randint(1, 3)
    biggest = r.random() < 0.5
    order = {1: "", 2: "second ", 3: "third "}[k]
    answer = sorted(numbers, reverse=biggest)[k - 1]
    listed = "  ".join(f"({LETTERS[i]}) {x}" for i, x in enumerate(numbers))
    question = f"Which is the {order}{'biggest' if biggest else 'smallest'} value? {listed}"
    return question, LETTERS[numbers.index(answer)]


def comparison(r: random.Random) -> tuple[str, str]:
    """Two numbers to be compared."""
    a = Fraction(r.randint(-400, 400), r.choice([1, 1, 3, 7, 10]))
    b = Fraction(r.randint(-400, 400), r.choice([1, 1, 3, 7, 10]))
    return (
        (f"Which is bigger: {a} or {b}?", str(max(a, b))),
        (f"Is {a} less than {b}?", str(a < b)),
        (f"Is {a} at least {b}?", str(a >= b)),
        (f"Are {a} and {b} equal?", str(a == b)),
    )[r.randrange(4)]


def roots(r: random.Random) -> tuple[str, str]:
    """An exact square or cube root, or a square root to the nearest integer."""
    n = r.randint(2, 40)
    k = r.choice([2, 2, 3])
    if r.random() < 0.5:
        return f"What is the {'square' if k == 2 else 'cube'} root of {n**k}?", str(n)
    m = r.randint(4, 4000)
    below = math.isqrt(m)
    nearest = below if m - below**2 <= (below + 1) ** 2 - m else below + 1
    return f"What is the square root of {m} to the nearest integer?", str(nearest)


def surds(r: random.Random) -> tuple[str, str]:
    """A square root with a square factor."""
    a, b = r.randint(2, 14), r.choice([2, 3, 5, 6, 7, 10, 11, 13])
    return f"Simplify sqrt({a * a * b}).", f"{a}*sqrt({b})"
