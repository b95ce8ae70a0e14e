"""A box of layers and experts, such as one drawn on a heatmap, as the beginning of an expression."""

from collections.abc import Iterable, Mapping

from mixtral_probe.selection import nodes
from mixtral_probe.selection.numbers import Numbers
from mixtral_probe.selection.parse import parse

_SIDES = (nodes.Name("layer"), nodes.Name("expert"))


def boxed(
    where: str, layers: Iterable[int], experts: Iterable[int], *, slices: Mapping[str, str] | None = None
) -> str:  # fmt: skip
    """Restrict an expression to these layers and to the tokens that chose one of these experts.

    A box at the beginning of the expression is replaced: `layer in 0..1 and expert in 2..3 and token.is_digit`.

    Args:
        where: an expression, or an empty text.
        layers: as the model numbers them.
        experts: at least one, like the layers.
        slices: what `@name` means in it, in addition to `SLICES`; names stay as they are.

    Raises:
        SelectionError: the expression breaks the grammar.
    """
    within = unboxed(where, slices=slices)
    rest = where if within is None else within
    parts = [Numbers.of(layers).test("layer"), Numbers.of(experts).test("expert")]
    parts += [f"({rest})"] if rest.strip() else []
    return str(parse(" and ".join(parts), slices))


def unboxed(where: str, *, slices: Mapping[str, str] | None = None) -> str | None:
    """Return an expression without its box, in its canonical spelling; None where it begins with no box.

    Args:
        where: an expression, or an empty text.
        slices: what `@name` means in it, in addition to `SLICES`.

    Raises:
        SelectionError: the expression breaks the grammar.
    """
    root = parse(where, slices).root if where.strip() else None
    if not isinstance(root, nodes.And):
        return None
    sides, rest = root.parts[:2], root.parts[2:]
    if tuple(side.name for side in sides if isinstance(side, nodes.Within)) != _SIDES:
        return None
    return str(rest[0] if len(rest) == 1 else nodes.And(rest))
