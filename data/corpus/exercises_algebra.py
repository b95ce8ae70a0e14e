"""Exercises about unknowns: equations, polynomials, derivatives, sequences, powers. Each returns (question, answer)."""

import random

from polynomials import Polynomial, compose, derivative, multiply, value, with_roots, written

VARIABLES = "abcdfghjklmnpqrstuvwxyz"


def variables(r: random.Random, count: int) -> list[str]:
    """Different letters for unknowns and functions."""
    return r.sample(VARIABLES, count)


def polynomial(r: random.Random, degree: int, largest: int = 12) -> Polynomial:
    """A polynomial of exactly this degree."""
    return [r.randint(-largest, largest) for _ in range(degree)] + [r.choice([-1, 1]) * r.randint(1, largest)]


def linear_equation(r: random.Random) -> tuple[str, str]:
    """One equation in one unknown, which may stand on both sides."""
    x = r.randint(-60, 60)
    a = r.choice([-1, 1]) * r.randint(1, 99)
    c = r.choice([0, 0, r.randint(-30, 30)])
    if a == c:
        c = 0
    b = r.randint(-900, 900)
    (y,) = variables(r, 1)
    right_number = a * x + b - c * x
    right = written([right_number, c], y) if c else str(right_number)
    return f"Solve {written([b, a], y)} = {right} for {y}.", str(x)


def linear_system(r: random.Random) -> tuple[str, str]:
    """Two equations in two unknowns."""
    x, y = r.randint(-30, 30), r.randint(-30, 30)
    p, q = variables(r, 2)
    while True:
        a, b, c, d = (r.randint(-40, 40) for _ in range(4))
        if a * d - b * c and a and b and c and d:
            break

    def side(first: int, second: int) -> str:
        lead = {1: p, -1: f"-{p}"}.get(first, f"{first}*{p}")
        return f"{lead} {'+' if second > 0 else '-'} {abs(second)}*{q}"

    wanted = r.choice([p, q])
    question = f"Solve {side(a, b)} = {a * x + b * y}, {side(c, d)} = {c * x + d * y} for {wanted}."
    return question, str(x if wanted == p else y)


def quadratic_equation(r: random.Random) -> tuple[str, str]:
    """A quadratic equation with integer roots."""
    a = r.choice([1, 1, 1, 2, 3, -1, 4])
    p, q = r.randint(-25, 25), r.randint(-25, 25)
    (y,) = variables(r, 1)
    wording = r.choice(
        ["Solve {} = 0 for {}.", "What is {1} in {0} = 0?", "Determine {1} so that {0} = 0.", "Let {} = 0. What is {}?"]
    )
    return wording.format(written(with_roots(p, q, a), y), y), ", ".join(map(str, sorted({p, q})))


def factorisation(r: random.Random) -> tuple[str, str]:
    """A quadratic polynomial to be written as a product."""
    a = r.choice([1, 1, 2, 3, 5, -1, -2])
    p, q = r.randint(-15, 15), r.randint(-15, 15)
    (y,) = variables(r, 1)

    def factor(root: int) -> str:
        return y if root == 0 else f"({y} {'-' if root > 0 else '+'} {abs(root)})"

    lead = {1: "", -1: "-"}.get(a, f"{a}*")
    roots = sorted({p, q}, key=lambda root: (root != 0, root))
    product = f"{factor(p)}**2" if p == q else "*".join(map(factor, roots))
    return f"Factor {written(with_roots(p, q, a), y)}.", lead + product


def expansion(r: random.Random) -> tuple[str, str]:
    """A product of two polynomials to be multiplied out."""
    (y,) = variables(r, 1)
    a = polynomial(r, r.choice([1, 1, 2]))
    b = polynomial(r, r.choice([1, 2]))
    return f"Expand ({written(a, y)})*({written(b, y)}).", written(multiply(a, b), y)


def collection(r: random.Random) -> tuple[str, str]:
    """A sum whose like terms are to be collected."""
    (y,) = variables(r, 1)
    terms = [
        (r.choice([-1, 1]) * r.randint(1, 60), r.choice([0, 1, 1, 2]))  # (coefficient, power)
        for _ in range(r.randint(4, 7))
    ]
    total = [0, 0, 0]
    text = ""
    for factor, power in terms:
        total[power] += factor
        term = written([0] * power + [factor], y)
        if not text:
            text = term
        else:
            text += f" + {term}" if factor > 0 else f" - {term[1:]}"
    return f"Collect the terms in {text}.", written(total, y)


def differentiation(r: random.Random) -> tuple[str, str]:
    """The first or second derivative of a polynomial."""
    y, _ = variables(r, 2)
    a = polynomial(r, r.choice([2, 3, 4]), 60)
    times = r.choice([1, 1, 1, 2])
    result = derivative(a) if times == 1 else derivative(derivative(a))
    order = {1: "derivative", 2: "second derivative"}[times]
    text = written(a, y)
    question = r.choice(
        [
            f"What is the {order} of {text} wrt {y}?",
            f"Find the {order} of {text} with respect to {y}.",
            f"Differentiate {text} {'twice ' if times == 2 else ''}with respect to {y}.",
        ]
    )
    return question, written(result, y)


def composition(r: random.Random) -> tuple[str, str]:
    """f(g(x)), as a polynomial or at a number."""
    x, f, g, h = variables(r, 4)
    a, b = polynomial(r, r.choice([1, 1, 2]), 9), polynomial(r, 1, 9)
    given = f"Let {f}({x}) = {written(a, x)}. Let {g}({h}) = {written(b, h)}."
    if r.random() < 0.5:
        n = r.randint(-9, 9)
        return f"{given} Calculate {f}({g}({n})).", str(value(a, value(b, n)))
    return f"{given} What is {f}({g}({h}))?", written(compose(a, b), h)


def evaluation(r: random.Random) -> tuple[str, str]:
    """The value of a polynomial at a number."""
    x, f = variables(r, 2)
    a = polynomial(r, r.choice([1, 2, 3]), 15)
    n = r.randint(-12, 12)
    wording = r.choice(["Give {}.", "Determine {}.", "What is {}?"])
    return f"Let {f}({x}) = {written(a, x)}. " + wording.format(f"{f}({n})"), str(value(a, n))


def sequence(r: random.Random) -> tuple[str, str]:
    """The next term, or the general term, of a polynomial sequence."""
    degree = r.choice([1, 1, 2, 3])
    a = polynomial(r, degree, {1: 90, 2: 20, 3: 6}[degree])
    (y,) = variables(r, 1)
    count = r.randint(4, 7)
    terms = ", ".join(str(value(a, i)) for i in range(1, count + 1))
    if r.random() < 0.5:
        return f"What is the {y}'th term of {terms}?", written(a, y)
    return f"What is next in {terms}?", str(value(a, count + 1))


def powers(r: random.Random) -> tuple[str, str]:
    """Laws of exponents."""
    (x,) = variables(r, 1)
    a, b, c = (r.randint(-9, 12) for _ in range(3))
    kind = r.randrange(3)

    def power(n: int) -> str:
        return {0: "1", 1: x}.get(n, f"{x}**{n}" if n > 0 else f"{x}**({n})")

    question, exponent = (
        (f"{power(a)}*{power(b)}", a + b),
        (f"({power(a)})/({power(b)})", a - b),
        (f"({power(a)})**{abs(c)}", a * abs(c)),
    )[kind]
    return f"Simplify {question} assuming {x} is positive.", power(exponent)
