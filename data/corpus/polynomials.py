"""Integer polynomials as lists of coefficients, lowest degree first, and how an exercise writes them."""

Polynomial = list[int]


def written(coefficients: Polynomial, variable: str) -> str:
    """The polynomial in Python's notation, highest degree first: `3*x**2 - x + 5`."""
    text = ""
    for power in range(len(coefficients) - 1, -1, -1):
        factor = coefficients[power]
        if factor == 0:
            continue
        term = _term(abs(factor), variable, power)
        if text:
            text += f" {'-' if factor < 0 else '+'} {term}"
        else:
            text = f"-{term}" if factor < 0 else term
    return text or "0"


def _term(factor: int, variable: str, power: int) -> str:
    if power == 0:
        return str(factor)
    symbol = variable if power == 1 else f"{variable}**{power}"
    return symbol if factor == 1 else f"{factor}*{symbol}"


def add(a: Polynomial, b: Polynomial) -> Polynomial:
    """a + b."""
    size = max(len(a), len(b))
    return [(a[i] if i < len(a) else 0) + (b[i] if i < len(b) else 0) for i in range(size)]


def multiply(a: Polynomial, b: Polynomial) -> Polynomial:
    """a · b."""
    product = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] += x * y
    return product


def scale(a: Polynomial, factor: int) -> Polynomial:
    """factor · a."""
    return [factor * x for x in a]


def derivative(a: Polynomial) -> Polynomial:
    """da/dx."""
    return [i * a[i] for i in range(1, len(a))] or [0]


def value(a: Polynomial, x: int) -> int:
    """a(x)."""
    return sum(c * x**i for i, c in enumerate(a))


def compose(a: Polynomial, b: Polynomial) -> Polynomial:
    """a(b(x)), by Horner's rule."""
    result = [0]
    for c in reversed(a):
        result = add(multiply(result, b), [c])
    return result


def with_roots(p: int, q: int, factor: int) -> Polynomial:
    """factor · (x − p)(x − q)."""
    return scale(multiply([-p, 1], [-q, 1]), factor)
