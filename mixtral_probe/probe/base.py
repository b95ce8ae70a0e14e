"""The base of a probe: the model, its tokenizer, and text that is tokenised once."""

from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch

from mixtral_probe.checkpoint import MixtralForCausalLM
from mixtral_probe.checkpoint.checkpoint import model_folder
from mixtral_probe.checkpoint.placement import DeviceMap
from mixtral_probe.corpus import Corpus, Source
from mixtral_probe.errors import InputError
from mixtral_probe.model import Numerics
from mixtral_probe.run import UNCUT, OnProgress, Plan, RunOptions, ShouldStop, Subject, plan
from mixtral_probe.tokenizer import Tokenizer


class ProbeBase:
    """A model, its tokenizer and its name."""

    def __init__(self, model: MixtralForCausalLM, tokenizer: Tokenizer | None = None, name: str = "") -> None:
        if isinstance(model, str | PathLike):
            raise InputError(f"Probe takes a model and its tokenizer, got {model!r}; give it to Probe.from_pretrained")
        for part, kind in ((model, MixtralForCausalLM), (tokenizer, Tokenizer)):
            if not isinstance(part, kind):
                raise InputError(_not_ours(part, kind.__name__))
        assert tokenizer is not None
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name

    def __repr__(self) -> str:
        config = self.model.config
        size = f"{config.num_hidden_layers} layers × {config.num_local_experts} experts"
        where = f"{str(self.model.dtype).removeprefix('torch.')} on {self.model.device}"
        return f"Probe of {self.name or 'a model'}: {size}, {config.num_experts_per_tok} per token, {where}"

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path = "mini",
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        numerics: Numerics | None = None,
        device_map: DeviceMap | None = None,
        **arguments: Any,
    ) -> Self:
        """Open a model folder; "mini" is the embedded model.

        Arguments as in ``MixtralForCausalLM.from_pretrained``, changes of the config among them, such as
        ``num_experts_per_tok=3``.
        """
        tokenizer = Tokenizer.from_folder(model_folder(folder))
        name = "mixtral-mini" if str(folder) == "mini" else Path(folder).name
        if arguments.pop("output_loading_info", False):
            raise InputError("a probe is one object, got output_loading_info=True; read the model with its own class")
        model = MixtralForCausalLM.from_pretrained(folder, dtype, device, numerics, device_map, **arguments)
        return cls(model, tokenizer, name)

    def plan(
        self, source: Source, *, window: int | None = None, add_special_tokens: bool = True, cut: bool = True
    ) -> Plan:
        """Tokenise text once, for ``estimate``, ``trace`` and every experiment, which take the plan as their source.

        Args:
            source: as in ``trace``.
            window: tokens after which a document is cut; by default the model's maximum.
            add_special_tokens: False for a text that has its control tokens, such as that of a chat template.
            cut: False for ``trace`` and ``estimate`` with ``generate``, which continue whole documents.

        Raises:
            InputError: the source breaks a rule; the sentence says what to do.
        """
        if not cut and window is not None:
            raise InputError(f"a text to be continued is not cut, got window={window} and generate; leave one out")
        options = RunOptions(window=window if cut else UNCUT, add_special_tokens=add_special_tokens)
        return plan(self._subject, Corpus.read(source), options)

    @property
    def _subject(self) -> Subject:
        return Subject(self.model, self.tokenizer, self.name)

    def _planned(self, source: Source | Plan, options: RunOptions) -> Plan:
        """The plan of a source, or the plan itself."""
        if not isinstance(source, Plan):
            return plan(self._subject, Corpus.read(source), options)
        if options.window is not None:
            raise InputError(f"a plan is cut already, got window={options.window} too; give window to Probe.plan")
        return source


def _not_ours(given: Any, kind: str) -> str:
    """The sentence for a model or tokenizer of another library."""
    rule = f"Probe needs a {kind} of mixtral_probe"
    if given is None:
        return f"{rule}, got none; Probe.from_pretrained reads model and tokenizer from a folder"
    home = type(given).__module__.split(".")[0]
    return (
        f"{rule}, got a {type(given).__name__} of {home}; save it with its save_pretrained(folder) and open the folder "
        "with Probe.from_pretrained"
    )


def run_options(
    window: int | None, positions: int, on_progress: OnProgress | None = None, should_stop: ShouldStop | None = None
) -> RunOptions:
    """The options of a run by the arguments of a method."""
    return RunOptions(
        window=window, positions_in_a_batch=positions, on_progress=on_progress, should_stop=should_stop
    )  # fmt: skip
