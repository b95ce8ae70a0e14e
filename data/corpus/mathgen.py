#!/usr/bin/env python3
"""Seeded generator of school mathematics questions with worked-out answers.

Style: like DeepMind's "mathematics_dataset" (one question line, one answer line),
but written from scratch here, standard library only, so there is no licence question:
the text it makes can be released under whatever licence the project has.

    python3 mathgen.py --seed 1 --bytes 8000000 > math.txt
One document = about 18 question/answer pairs; documents are separated by a line "\\x00".
"""
import argparse, math, random, sys
from fractions import Fraction as F

VARS = "abcdfghjklmnpqrstuvwxyz"

def sgn(n, first=False):
    return (f"{n}" if first else (f" + {n}" if n >= 0 else f" - {-n}"))

def poly(c, v):
    """c[i] is the coefficient of v**i; highest degree first, DM style."""
    out = ""
    for i in range(len(c) - 1, -1, -1):
        a = c[i]
        if a == 0:
            continue
        s = "-" if a < 0 else "+"
        a = abs(a)
        t = str(a) if i == 0 else ((f"{a}*" if a != 1 else "") + (v if i == 1 else f"{v}**{i}"))
        out += (t if s == "+" else "-" + t) if not out else f" {s} {t}"
    return out or "0"

def padd(a, b):
    n = max(len(a), len(b))
    return [(a[i] if i < len(a) else 0) + (b[i] if i < len(b) else 0) for i in range(n)]

def pmul(a, b):
    r = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            r[i + j] += x * y
    return r

def pscale(a, k): return [k * x for x in a]
def pder(a): return [i * a[i] for i in range(1, len(a))] or [0]
def pval(a, x): return sum(c * x ** i for i, c in enumerate(a))

def pcomp(a, b):
    r = [0]
    for c in reversed(a):
        r = padd(pmul(r, b), [c])
    return r

def rp(r, deg, m=12):
    c = [r.randint(-m, m) for _ in range(deg)] + [r.choice([-1, 1]) * r.randint(1, m)]
    return c

def big(r):
    d = r.choice([1, 2, 2, 3, 3, 4, 5, 6])
    return r.choice([1, 1, -1]) * r.randint(0, 10 ** d)

def dec(r):
    k = r.choice([0, 1, 1, 2, 3]); n = big(r)
    return F(n, 10 ** k), k

def fdec(x):
    """exact decimal text of a Fraction whose denominator divides a power of ten"""
    s = "-" if x < 0 else ""; x = abs(x); k = 0
    while (x * 10 ** k).denominator != 1: k += 1
    n = int(x * 10 ** k)
    if k == 0: return s + str(n)
    t = str(n).rjust(k + 1, "0")
    return s + t[:-k] + "." + t[-k:]

def v(r, n=1):
    x = r.sample(VARS, n)
    return x[0] if n == 1 else x

# ---- question types: each returns (question, answer) ----
def q_add(r):
    a, _ = dec(r); b, _ = dec(r); op = r.choice("+-")
    ans = a + b if op == "+" else a - b
    A, B = fdec(a), fdec(b)
    w = r.choice(["Calculate {}.", "Work out {}.", "What is {}?", "{}", "Evaluate {}.", "Put together: {}."][:5])
    return w.format(f"{A} {op} {B}" if b >= 0 else f"{A} {op} ({B})"), fdec(ans)
def q_mul(r):
    a, _ = dec(r); b, _ = dec(r)
    return r.choice(["What is {} times {}?", "Multiply {} and {}.", "Product of {} and {}.", "Calculate {}*{}.", "Work out {} * {}."]).format(fdec(a), fdec(b)), fdec(a * b)
def q_div(r):
    b = r.choice([-1, 1, 1]) * r.randint(1, 400); k = r.choice([-1, 1, 1]) * r.randint(0, 900)
    if r.random() < .6: a = b * k
    else: a = big(r)
    x = F(a, b)
    return r.choice(["Divide {} by {}.", "What is {} divided by {}?", "Calculate {} divided by {}."]).format(a, b), str(x)
def expr(r, d):
    if d == 0 or r.random() < .15:
        n = r.randint(-20, 20); return (f"({n})" if n < 0 else str(n)), F(n)
    for _ in range(20):
        (a, x), (b, y) = expr(r, d - 1), expr(r, d - 1); op = r.choice("++--*/")
        if op == "/" and y == 0: continue
        z = {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else None}[op]
        return f"({a} {op} {b})" if op in "+-" else f"{a}{op}{b}" if op == "*" else f"({a})/({b})", z
    return "1", F(1)
def q_mixed(r):
    e, z = expr(r, r.choice([2, 2, 3]))
    if e.startswith("(") and e.endswith(")") and e.count("(") == 1: e = e[1:-1]
    return r.choice(["What is {}?", "Evaluate {}.", "Calculate {}.", "What is the value of {}?"]).format(e), str(z)
def q_lin1(r):
    x = r.randint(-60, 60); a = r.choice([-1, 1]) * r.randint(1, 99); c = r.choice([0, 0, r.randint(-30, 30)])
    if a == c: c = 0
    b = r.randint(-900, 900); y = v(r)
    rhs = a * x + b - c * x
    left = poly([b, a], y); right = poly([rhs, c], y) if c else str(rhs)
    return f"Solve {left} = {right} for {y}.", str(x)
def q_lin2(r):
    x, y = r.randint(-30, 30), r.randint(-30, 30); p, q = v(r, 2)
    while True:
        a, b, c, d = (r.randint(-40, 40) for _ in range(4))
        if a * d - b * c and a and b and c and d: break
    def term(a, b): return f"{a}*{p}{' + ' if b>0 else ' - '}{abs(b)}*{q}".replace("1*" + p if abs(a)==1 else "\0", p) if abs(a)!=1 else f"{'-' if a<0 else ''}{p}{' + ' if b>0 else ' - '}{abs(b)}*{q}"
    s = r.choice([p, q])
    return f"Solve {term(a,b)} = {a*x+b*y}, {term(c,d)} = {c*x+d*y} for {s}.", str(x if s == p else y)
def q_quad(r):
    a = r.choice([1, 1, 1, 2, 3, -1, 4]); p, q = r.randint(-25, 25), r.randint(-25, 25); y = v(r)
    c = pscale(pmul([-p, 1], [-q, 1]), a)
    t = r.choice(["Solve {} = 0 for {}.", "What is {1} in {0} = 0?", "Determine {1} so that {0} = 0.", "Let {} = 0. What is {}?"])
    return t.format(poly(c, y), y), ", ".join(map(str, sorted({p, q})))
def q_factor(r):
    a = r.choice([1, 1, 2, 3, 5, -1, -2]); p, q = r.randint(-15, 15), r.randint(-15, 15); y = v(r)
    c = pscale(pmul([-p, 1], [-q, 1]), a)
    def f(t): return y if t == 0 else f"({y} {'-' if t>0 else '+'} {abs(t)})"
    lead = "" if a == 1 else "-" if a == -1 else f"{a}*"
    body = (f"{f(p)}**2" if p == q else "*".join(f(t) for t in sorted({p, q}, key=lambda t: (t != 0, t))))
    return f"Factor {poly(c, y)}.", lead + body
def q_expand(r):
    y = v(r); a, b = rp(r, r.choice([1, 1, 2])), rp(r, r.choice([1, 2]))
    return f"Expand ({poly(a, y)})*({poly(b, y)}).", poly(pmul(a, b), y)
def q_collect(r):
    y = v(r); ts = [(r.choice([-1, 1]) * r.randint(1, 60), r.choice([0, 1, 1, 2])) for _ in range(r.randint(4, 7))]
    c = [0, 0, 0]; s = ""
    for k, e in ts:
        c[e] += k; m = [0] * e + [k]; t = poly(m, y)
        s += t if not s else (" + " + t if k > 0 else " - " + t[1:])
    return f"Collect the terms in {s}.", poly(c, y)
def q_der(r):
    y, f = v(r, 2); c = rp(r, r.choice([2, 3, 4]), 60)
    n = r.choice([1, 1, 1, 2]); d = c
    for _ in range(n): d = pder(d)
    w = {1: "derivative", 2: "second derivative"}[n]
    return r.choice([f"What is the {w} of {poly(c, y)} wrt {y}?", f"Find the {w} of {poly(c, y)} with respect to {y}.", f"Differentiate {poly(c, y)} {'twice ' if n==2 else ''}with respect to {y}."]), poly(d, y)
def q_comp(r):
    x, f, g, h = v(r, 4); a, b = rp(r, r.choice([1, 1, 2]), 9), rp(r, 1, 9)
    if r.random() < .5:
        n = r.randint(-9, 9)
        return f"Let {f}({x}) = {poly(a, x)}. Let {g}({h}) = {poly(b, h)}. Calculate {f}({g}({n})).", str(pval(a, pval(b, n)))
    return f"Let {f}({x}) = {poly(a, x)}. Let {g}({h}) = {poly(b, h)}. What is {f}({g}({h}))?", poly(pcomp(a, b), h)
def q_polyval(r):
    x, f = v(r, 2); a = rp(r, r.choice([1, 2, 3]), 15); n = r.randint(-12, 12)
    return r.choice([f"Let {f}({x}) = {poly(a, x)}. Give {f}({n}).", f"Let {f}({x}) = {poly(a, x)}. Determine {f}({n}).", f"Let {f}({x}) = {poly(a, x)}. What is {f}({n})?"]), str(pval(a, n))
def q_gcd(r):
    g = r.randint(1, 60); a, b = g * r.randint(1, 60), g * r.randint(1, 60)
    return r.choice(["Calculate the greatest common divisor of {} and {}.", "What is the highest common factor of {} and {}?", "What is the greatest common factor of {} and {}?"]).format(a, b), str(math.gcd(a, b))
def q_lcm(r):
    g = r.randint(1, 30); a, b = g * r.randint(1, 30), g * r.randint(1, 30)
    return r.choice(["Calculate the least common multiple of {} and {}.", "What is the smallest common multiple of {} and {}?"]).format(a, b), str(a * b // math.gcd(a, b))
def isprime(n):
    if n < 2: return False
    i = 2
    while i * i <= n:
        if n % i == 0: return False
        i += 1
    return True
def q_prime(r):
    n = r.randint(2, 20000) | 1
    if r.random() < .5: return f"Is {n} a prime number?", str(isprime(n))
    return f"Is {n} composite?", str(not isprime(n) and n > 1)
def q_pfac(r):
    n = 1
    while n < 10 or r.random() < .65:
        n *= r.choice([2, 2, 3, 3, 5, 7, 11, 13, 17, 19, 23, 29, 37, 41])
        if n > 200000: break
    m, f, p = n, [], 2
    while m > 1:
        if m % p == 0: f.append(p); m //= p
        else: p += 1
    return r.choice(["What are the prime factors of {}?", "List the prime factors of {}."]).format(n), ", ".join(map(str, sorted(set(f))))
def q_rem(r):
    b = r.randint(2, 300); a = r.randint(0, 60000)
    return r.choice(["Calculate the remainder when {} is divided by {}.", "What is the remainder when {} is divided by {}?"]).format(a, b), str(a % b)
def q_mult(r):
    b = r.randint(2, 90); a = b * r.randint(1, 400) + (0 if r.random() < .5 else r.randint(1, b - 1))
    return r.choice(["Is {a} a multiple of {b}?", "Is {b} a factor of {a}?", "Does {b} divide {a}?"]).format(a=a, b=b), str(a % b == 0)
def q_base(r):
    n = r.randint(1, 5000); b = r.choice([2, 2, 3, 5, 7, 8, 16]); b2 = r.choice([x for x in (2, 3, 4, 8, 10, 16) if x != b])
    def tob(n, b):
        s = ""
        while n: s = "0123456789abcdef"[n % b] + s; n //= b
        return s or "0"
    return f"What is {tob(n, b)} (base {b}) in base {b2}?", tob(n, b2)
def q_place(r):
    n = r.randint(1000, 99999999); names = ["units", "tens", "hundreds", "thousands", "ten thousands", "hundred thousands", "millions", "ten millions"]
    i = r.randrange(min(len(str(n)), 8))
    return f"What is the {names[i]} digit of {n}?", str(n)[-1 - i]
def q_round(r):
    if r.random() < .5:
        k = r.choice([1, 2, 3, 4]); n = r.randint(-99999, 999999); m = 10 ** k
        ans = int(math.floor(F(n, m) + F(1, 2))) * m if n >= 0 else -int(math.floor(F(-n, m) + F(1, 2))) * m
        return f"Round {n} to the nearest {['', 'ten', 'one hundred', 'one thousand', 'ten thousand'][k]}.", str(ans)
    k = r.choice([1, 2, 3]); x = F(r.randint(1, 9999999), 10 ** r.choice([4, 5, 6]))
    y = F(math.floor(x * 10 ** k + F(1, 2)), 10 ** k)
    return f"What is {fdec(x)} rounded to {['', 'one', 'two', 'three'][k]} decimal place{'s' if k > 1 else ''}?", fdec(y)
def q_sort(r):
    n = r.randint(3, 7); xs = [F(r.randint(-90, 90), r.choice([1, 1, 1, 2, 5])) for _ in range(n)]
    up = r.random() < .5; t = [str(x) for x in xs]
    return f"Sort {', '.join(t)} in {'ascending' if up else 'descending'} order.", ", ".join(str(x) for x in sorted(xs, reverse=not up))
def q_kth(r):
    xs = r.sample(range(-200, 200), r.randint(4, 7)); k = r.randint(1, 3); up = r.random() < .5
    w = ["", "", "second ", "third "][k]; L = "abcdefg"
    s = sorted(xs, reverse=up)[k - 1]
    return f"Which is the {w}{'biggest' if up else 'smallest'} value? " + "  ".join(f"({L[i]}) {x}" for i, x in enumerate(xs)), L[xs.index(s)]
def q_cmp(r):
    a, b = F(r.randint(-400, 400), r.choice([1, 1, 3, 7, 10])), F(r.randint(-400, 400), r.choice([1, 1, 3, 7, 10]))
    k = r.randrange(4)
    if k == 0: return f"Which is bigger: {a} or {b}?", str(max(a, b))
    if k == 1: return f"Is {a} less than {b}?", str(a < b)
    if k == 2: return f"Is {a} at least {b}?", str(a >= b)
    return f"Are {a} and {b} equal?", str(a == b)
def q_seq(r):
    d = r.choice([1, 1, 2, 3]); c = rp(r, d, [0, 90, 20, 6][d]); y = v(r); n = r.randint(4, 7)
    s = [pval(c, i) for i in range(1, n + 1)]; q = ", ".join(map(str, s))
    if r.random() < .5: return f"What is the {y}'th term of {q}?", poly(c, y)
    return f"What is next in {q}?", str(pval(c, n + 1))
def q_prob(r):
    L = r.sample("abcdefghijklmnopqrstuvwxyz", r.randint(2, 5)); bag = [r.choice(L) for _ in range(r.randint(5, 14))]
    k = r.randint(2, 3); seq = [r.choice(bag) for _ in range(k)]; cnt = {x: bag.count(x) for x in bag}; p = F(1); n = len(bag)
    for x in seq:
        p *= F(max(cnt[x], 0), n); cnt[x] -= 1; n -= 1
    return f"{['', '', 'Two', 'Three'][k]} letters picked without replacement from {''.join(bag)}. What is prob of sequence {''.join(seq)}?", str(p)
UNITS = [("meters", "centimeters", 100), ("kilometers", "meters", 1000), ("hours", "minutes", 60), ("days", "hours", 24), ("kilograms", "grams", 1000), ("litres", "millilitres", 1000), ("minutes", "seconds", 60), ("weeks", "days", 7), ("tonnes", "kilograms", 1000), ("centimeters", "millimeters", 10), ("decades", "years", 10)]
def q_unit(r):
    a, b, k = r.choice(UNITS); x = F(r.randint(1, 9999), r.choice([1, 1, 10, 100]))
    if r.random() < .6: return f"How many {b} are there in {fdec(x)} {a}?", fdec(x * k)
    n = r.randint(1, 999) * k
    return f"What is {n} {b} in {a}?", str(n // k)
def q_time(r):
    h, m, d = r.randint(1, 12), r.randint(0, 59), r.randint(1, 700); ap = r.choice(["AM", "PM"])
    t = (h % 12 + (12 if ap == "PM" else 0)) * 60 + m; u = (t + d) % 1440
    f = lambda t: f"{(t // 60 - 1) % 12 + 1}:{t % 60:02d} {'AM' if t < 720 else 'PM'}"
    if r.random() < .5: return f"What is {d} minutes after {f(t)}?", f(u)
    return f"How many minutes are there between {f(t)} and {f(u)}?", str(d) if d < 1440 else str((u - t) % 1440)
def q_root(r):
    n = r.randint(2, 40); k = r.choice([2, 2, 3])
    if r.random() < .5: return f"What is the {['', '', 'square', 'cube'][k]} root of {n**k}?", str(n)
    m = r.randint(4, 4000); s = math.isqrt(m); s = s if m - s * s <= (s + 1) ** 2 - m else s + 1
    return f"What is the square root of {m} to the nearest integer?", str(s)
def q_surd(r):
    a, b = r.randint(2, 14), r.choice([2, 3, 5, 6, 7, 10, 11, 13])
    return f"Simplify sqrt({a*a*b}).", f"{a}*sqrt({b})"
def q_pow(r):
    x = v(r); a, b, c = (r.randint(-9, 12) for _ in range(3))
    k = r.randrange(3)
    f = lambda n: "1" if n == 0 else x if n == 1 else f"{x}**{n}" if n > 0 else f"{x}**({n})"
    if k == 0: return f"Simplify {f(a)}*{f(b)} assuming {x} is positive.", f(a + b)
    if k == 1: return f"Simplify ({f(a)})/({f(b)}) assuming {x} is positive.", f(a - b)
    return f"Simplify ({f(a)})**{abs(c)} assuming {x} is positive.", f(a * abs(c))
def q_frac(r):
    a, b = F(r.randint(-30, 30), r.randint(1, 20)), F(r.randint(-30, 30), r.randint(1, 20)); op = r.choice("+-*")
    z = a + b if op == "+" else a - b if op == "-" else a * b
    B = f"({b})" if b < 0 else str(b)
    return r.choice(["What is {}?", "Calculate {}.", "Simplify {}."]).format(f"{a} {op} {B}"), str(z)
NAMES = "Anna Ben Clara David Elena Farid Grace Hugo Ines Jonas Kim Lena Marco Nadia Omar Petra Quinn Rosa Sam Tara".split()
THINGS = "apples books pencils coins marbles stickers tickets cards shells stamps eggs bottles".split()
def q_word(r):
    n, m = r.sample(NAMES, 2); t = r.choice(THINGS); a, b, c = r.randint(3, 90), r.randint(2, 60), r.randint(2, 12); k = r.randrange(5)
    if k == 0: return f"{n} has {a} {t}. {m} gives {n} {b} more. How many {t} does {n} have now?", str(a + b)
    if k == 1: return f"{n} has {a+b} {t} and gives {b} of them to {m}. How many {t} does {n} have left?", str(a)
    if k == 2: return f"{n} buys {c} boxes with {b} {t} in each box. How many {t} does {n} buy?", str(b * c)
    if k == 3: return f"{n} shares {b*c} {t} equally between {c} friends. How many {t} does each friend get?", str(b)
    return f"{n} has {a} {t}. {m} has {c} times as many. How many {t} do they have together?", str(a + a * c)
TYPES = [q_add, q_add, q_mul, q_mul, q_div, q_mixed, q_mixed, q_lin1, q_lin1, q_lin2, q_quad, q_factor, q_expand, q_collect, q_der, q_der,
         q_comp, q_polyval, q_gcd, q_lcm, q_prime, q_pfac, q_rem, q_mult, q_base, q_place, q_round, q_sort, q_kth, q_cmp, q_seq, q_prob,
         q_unit, q_time, q_root, q_surd, q_pow, q_frac, q_word, q_word]

def documents(seed=1, nbytes=8_000_000):
    r = random.Random(seed); total = 0; seen = set()
    while total < nbytes:
        pairs = []
        # a document is either one topic (a "worksheet") or a mixture
        topic = r.sample(TYPES, r.choice([1, 2])) if r.random() < .35 else TYPES
        while len(pairs) < 40:
            q, a = r.choice(topic)(r)
            if (q not in seen) or r.random() < .05:
                seen.add(q); pairs.append(f"{q}\n{a}")
        d = "\n".join(pairs); total += len(d) + 3
        yield d

if __name__ == "__main__":
    ap = argparse.ArgumentParser(); ap.add_argument("--seed", type=int, default=1); ap.add_argument("--bytes", type=int, default=8_000_000)
    a = ap.parse_args()
    for d in documents(a.seed, a.bytes): sys.stdout.write(d + "\n\x00\n")
