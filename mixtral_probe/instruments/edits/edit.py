"""The base classes of edits: conditions, checks, and their description in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from torch import Tensor

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.instruments.edits.rows import BatchRow, Rows
from mixtral_probe.model import ForwardContext, Instrument, Site


def _as_tuple(value: Any) -> Any:
    """Return one number or text as a tuple of one; lists and ranges as tuples."""
    if isinstance(value, (list, range)):
        return tuple(value)
    return (value,) if isinstance(value, (int, str)) else value


def _sorted_once(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(values)) < len(values):
        raise ValueError("each number may be named only once")
    return tuple(sorted(values))


if TYPE_CHECKING:  # stored as tuples, accepted as numbers, lists and ranges too
    Ordered: TypeAlias = Any
    Numbers: TypeAlias = Any
    Texts: TypeAlias = Any
else:
    _Number = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
    Ordered = Annotated[tuple[_Number, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    """One number or several, in their order."""
    Numbers = Annotated[Ordered, AfterValidator(_sorted_once)]
    """One number or several from 0, ascending."""
    Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class Edit(Instrument, BaseModel):
    """A change of the forward pass: frozen plain data, and an instrument that can be attached to any call.

    Every edit has a sentence that describes it (``semantics``); ``print`` writes it with layers and conditions. Edits
    are applied in their order. All conditions must hold; one that is None holds everywhere.

    Args:
        layer: a layer, several, or "all".
        position: only tokens at these positions of their window.
        token_id: only tokens with these ids.
        document: only tokens of documents with these labels, such as ``{"domain": "code"}``.
        phase: only while a prompt is read ("prefill"), or only while tokens are generated ("decode").

    Raises:
        InputError: a value breaks a rule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    semantics: ClassVar[str]
    """The effect of the edit, as the end of a sentence, with fields in braces."""
    sites: ClassVar[tuple[Site, ...]]
    """The sites that it changes."""

    edit: str
    layer: Literal["all"] | Numbers = "all"
    position: Numbers | None = None
    token_id: Numbers | None = None
    document: dict[str, Texts] | None = None
    phase: Literal["prefill", "decode"] | None = None

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            first = error.errors()[-1]
            field = str(first["loc"][0]) if first["loc"] else "its fields"
            if first["type"] == "extra_forbidden":
                names = ", ".join(name for name in type(self).model_fields if name != "edit")
                raise InputError(f"{type(self).__name__} has the fields {names}, got {field!r}; correct it") from None
            got = f"no {field}" if first["type"] == "missing" else f"{field}={first['input']!r}"
            raise InputError(f"{type(self).__name__} needs valid fields, got {got}: {first['msg']}") from None

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def wants(self, site: Site, layer: int) -> bool:
        """Return True for its sites in its layers."""
        return site in self.sites and (layer >= 0 if self.layer == "all" else layer in self.layer)

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Apply the edit, in a call whose batch rows are unknown."""
        return self.change(site, layer, value, Rows(context)) if self._in_phase(context) else value

    def change(self, site: Site, layer: int, value: Any, rows: Rows) -> Any:
        """Return the changed value of a site."""
        raise NotImplementedError

    def check(self, config: MixtralConfig) -> None:
        """Check that a model has the layers, experts and heads of the edit.

        Raises:
            InputError: a layer, expert or head does not exist, or fewer than K experts would remain.
        """
        _refuse_missing("layer", self.layers_named, config.num_hidden_layers)

    def among(self, rows: Sequence[BatchRow]) -> "PlacedEdit":
        """Return the edit for one batch with these rows."""
        return PlacedEdit(self, tuple(rows))

    def most_experts(self, top_k: int) -> int:
        """Return the largest number of experts of a token after the edit, ``top_k`` before it."""
        return top_k

    def require_savable(self) -> None:
        """Raise InputError where a file cannot hold the edit."""

    def settings(self) -> dict[str, Any]:
        """Return the edit as in the record of a run: its name, and the fields that were set."""
        fields = self.model_dump(mode="json", include=self.model_fields_set - {"function"})
        return {"name": type(self).__name__, **fields}

    @property
    def sites_used(self) -> tuple[Site, ...]:
        """The sites that this edit changes."""
        return self.sites

    @property
    def layers_named(self) -> tuple[int, ...]:
        """The layers by number; empty for all layers."""
        return () if self.layer == "all" else self.layer

    def __str__(self) -> str:
        fields = {name: words(getattr(self, name)) for name in type(self).model_fields}
        fields |= {name: _several(name, getattr(self, name)) for name in ("layer", "expert", "head") if name in fields}
        where = "in every layer" if self.layer == "all" else f"in {fields['layer']}"
        return ", ".join([where, *self._conditions()]) + ": " + self.semantics.format(**fields)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Return the fields that were set."""
        return ((name, value) for name, value in super().__repr_args__() if name in self.model_fields_set)

    def _conditions(self) -> list[str]:
        conditions = [] if self.position is None else [f"at {_several('position', self.position)}"]
        conditions += [] if self.token_id is None else [f"for {_several('token id', self.token_id)}"]
        conditions += [f"where {name} is {words(values)}" for name, values in (self.document or {}).items()]
        phases = {"prefill": "while the prompt is read", "decode": "while tokens are generated"}
        return conditions if self.phase is None else [*conditions, phases[self.phase]]

    def _in_phase(self, context: ForwardContext) -> bool:
        return self.phase is None or self.phase == context.phase

    def where(self, rows: Rows) -> Tensor | None:
        """[B, S] bool, whether the conditions hold; None where they hold everywhere."""
        conditions: list[Tensor] = []
        if self.position is not None:
            conditions.append(_is_in(rows.positions(), self.position))
        if self.token_id is not None:
            conditions.append(_is_in(rows.token_ids(), self.token_id))
        conditions += [rows.labelled(name, values).expand(rows.shape) for name, values in (self.document or {}).items()]
        return torch.stack(conditions).all(0) if conditions else None


@dataclass(frozen=True)
class PlacedEdit(Instrument):
    """An edit for one batch with known rows."""

    edit: Edit
    rows: tuple[BatchRow, ...]

    def wants(self, site: Site, layer: int) -> bool:
        """Return what the edit wants."""
        return self.edit.wants(site, layer)

    def visit(self, site: Site, layer: int, value: Any, context: ForwardContext) -> Any:
        """Apply the edit."""
        return self.edit.change(site, layer, value, Rows(context, self.rows)) if self.edit._in_phase(context) else value

    def meant(self, context: ForwardContext) -> Tensor:
        """[B·S] bool, the tokens of a call that meet the conditions."""
        rows = Rows(context, self.rows)
        where = self.edit.where(rows) if self.edit._in_phase(context) else torch.zeros(rows.shape, dtype=torch.bool)
        return torch.ones(rows.shape, dtype=torch.bool).reshape(-1) if where is None else where.reshape(-1)

    @property
    def edits_attention(self) -> bool:
        """Whether the edit changes attention weights."""
        return self.edit.edits_attention

    def check(self, config: MixtralConfig) -> None:
        """Check the edit."""
        self.edit.check(config)


class ExpertEdit(Edit):
    """An edit of some experts: ``expert`` is one or several."""

    expert: Numbers

    def check(self, config: MixtralConfig) -> None:
        """Check as in every edit, and that the experts exist."""
        super().check(config)
        _refuse_missing("expert", self.expert, config.num_local_experts)


class HeadEdit(Edit):
    """An edit of some attention heads: ``head`` is one or several."""

    sites: ClassVar[tuple[Site, ...]] = (Site.HEAD_OUTPUT,)
    head: Numbers

    def check(self, config: MixtralConfig) -> None:
        """Check as in every edit, and that the heads exist."""
        super().check(config)
        _refuse_missing("head", self.head, config.num_attention_heads)


def blend(where: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """Return ``new`` for the selected tokens [B, S], ``old`` elsewhere; both begin with tokens, [B, S, …] or [T, …].

    If ``where`` is None, that is ``new`` itself, so that an edit without effect changes no bit.
    """
    if where is None:
        return new
    tokens = where if new.shape[: where.ndim] == where.shape else where.reshape(-1)
    return torch.where(tokens[(...,) + (None,) * (new.ndim - tokens.ndim)], new, old)


def words(value: Any) -> str:
    """Write a field in words: (3, 4, 5, 8) → "3–5, 8", 2.0 → "2", a function → its name."""
    if isinstance(value, float):
        return f"{value:g}"
    if callable(value):
        return getattr(value, "__name__", repr(value))
    if not isinstance(value, tuple) or not all(isinstance(entry, int) for entry in value):
        return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    runs: list[list[int]] = []
    for number in value:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _several(noun: str, value: Any) -> str:
    return f"{noun}s {words(value)}" if isinstance(value, tuple) and len(value) > 1 else f"{noun} {words(value)}"


def _is_in(values: Tensor, options: tuple[int, ...]) -> Tensor:
    return torch.isin(values, torch.tensor(options, device=values.device))


def _refuse_missing(noun: str, named: tuple[int, ...], number: int) -> None:
    beyond = [value for value in named if value >= number]
    if beyond:
        raise InputError(f"{noun} must be in 0–{number - 1} (this model has {number}), got {beyond[0]}")
