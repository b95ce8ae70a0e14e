"""An edit by a Python function."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from torch import Tensor

from mixtral_probe.errors import InputError
from mixtral_probe.instruments.edits.edit import Edit, blend
from mixtral_probe.instruments.edits.rows import Rows
from mixtral_probe.model import ForwardContext, Site


class Function(Edit):
    """Change the value of any site by a Python function; it cannot be saved.

    >>> Function(layer=3, site="moe_output", function=lambda value, context: value * 0)
    """

    semantics: ClassVar[str] = (
        "the value of {site} is what the function {function} makes of it; what is renormalised, it says itself"
    )
    edit: Literal["function"] = "function"
    site: Site
    function: Callable[[Any, ForwardContext], Any]
    """(value of the site, context) → a value of the same kind; the argument must stay unchanged."""

    def __hash__(self) -> int:
        return hash((type(self), self.function))

    @property
    def edits_attention(self) -> bool:
        """Whether the layer's output must be computed from the weights it returns."""
        return self.site is Site.ATTENTION_WEIGHTS

    @property
    def sites_used(self) -> tuple[Site, ...]:
        """The site of the function."""
        return (self.site,)

    def wants(self, site: Site, layer: int) -> bool:
        """Return True for its site in its layers, or where it belongs to no layer."""
        if site is not self.site:
            return False
        return self.layer == "all" or layer in self.layers_named or layer < 0

    def change(self, site: Site, layer: int, value: Any, rows: Rows) -> Any:
        """Apply the function where the conditions hold; only tensors with the tokens first can have conditions."""
        new, where = self.function(value, rows.context), self.where(rows)
        if where is None:
            return new
        if not isinstance(value, Tensor) or site in (Site.QUERY, Site.KEY, Site.VALUE):
            raise InputError(
                f"a function at {site} takes no conditions on tokens; use its second argument, the context, instead"
            )
        return blend(where, new, value)

    def require_savable(self) -> None:
        """Raise InputError: a file contains no code."""
        raise InputError("a Python function cannot be saved; keep it in a script")
