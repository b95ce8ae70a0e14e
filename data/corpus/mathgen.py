"""Seeded generator of school exercises with their answers, written for this project.

One exercise is a line with the question and a line with the answer.
"""

import random
from collections.abc import Iterator

import exercises_algebra as algebra
import exercises_everyday as everyday
import exercises_numbers as numbers

EXERCISES_A_DOCUMENT = 40
SHARE_OF_WORKSHEETS = 0.35
SHARE_OF_REPEATS = 0.05

# A kind that stands twice is drawn twice as often.
KINDS = [
    *[numbers.addition] * 2,
    *[numbers.multiplication] * 2,
    numbers.division,
    *[numbers.mixed] * 2,
    *[algebra.linear_equation] * 2,
    algebra.linear_system,
    algebra.quadratic_equation,
    algebra.factorisation,
    algebra.expansion,
    algebra.collection,
    *[algebra.differentiation] * 2,
    algebra.composition,
    algebra.evaluation,
    numbers.greatest_common_divisor,
    numbers.least_common_multiple,
    numbers.primality,
    numbers.prime_factors,
    numbers.remainder,
    numbers.multiples,
    numbers.base_change,
    numbers.place_value,
    numbers.rounding,
    numbers.sorting,
    numbers.kth_value,
    numbers.comparison,
    algebra.sequence,
    everyday.probability,
    everyday.units,
    everyday.clock,
    numbers.roots,
    numbers.surds,
    algebra.powers,
    numbers.fractions,
    *[everyday.story] * 2,
]


def documents(seed: int, size: int) -> Iterator[str]:
    """Documents of `EXERCISES_A_DOCUMENT` exercises each, about `size` characters in all.

    A document is a worksheet of one or two kinds or a mixture of all; a question is seldom asked twice.
    """
    r = random.Random(seed)
    written = 0
    asked: set[str] = set()
    while written < size:
        kinds = r.sample(KINDS, r.choice([1, 2])) if r.random() < SHARE_OF_WORKSHEETS else KINDS
        exercises: list[str] = []
        while len(exercises) < EXERCISES_A_DOCUMENT:
            question, answer = r.choice(kinds)(r)
            if question not in asked or r.random() < SHARE_OF_REPEATS:
                asked.add(question)
                exercises.append(f"{question}\n{answer}")
        document = "\n".join(exercises)
        written += len(document) + 3
        yield document
