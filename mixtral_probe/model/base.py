"""What every model class has under the names of transformers: config, device, size, embeddings, checkpointing."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mixtral_probe.config import MixtralConfig
from mixtral_probe.errors import InputError
from mixtral_probe.model.gradient_checkpointing import Checkpointing
from mixtral_probe.model.grouped_experts import ExpertsImplementation
from mixtral_probe.model.hooks import separates_experts
from mixtral_probe.model.sites import Instrument


class BaseModel(nn.Module):
    """The base class of the decoder stack and of the models with a head, whose decoder stack is ``model``."""

    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    name_or_path = ""
    """The folder the weights come from, where there is one; adapters keep it as that of their base model."""
    _config: MixtralConfig
    _input_grads: RemovableHandle | None = None

    @property
    def base_model(self) -> Any:
        """The decoder stack; the model itself where it is one."""
        return getattr(self, self.base_model_prefix, self)

    def get_decoder(self) -> Any:
        """The decoder stack."""
        return self.base_model

    @property
    def config(self) -> MixtralConfig:
        """The one config of a model and its decoder stack."""
        config: MixtralConfig = self.base_model._config
        return config

    @config.setter
    def config(self, config: MixtralConfig) -> None:
        """Replace it in the model and its decoder stack."""
        self.base_model._config = config

    @property
    def device(self) -> torch.device:
        """The device of the first weight; a model may lie on several."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first weight."""
        return next(self.parameters()).dtype

    @property
    def experts_implementation(self) -> ExpertsImplementation | None:
        """How experts are computed where an instrument does not want them one by one; None: as measured faster."""
        chosen: ExpertsImplementation | None = self.base_model.layers[0].block_sparse_moe.experts.implementation
        return chosen

    def set_experts_implementation(self, experts_implementation: ExpertsImplementation | None) -> None:
        """Choose "eager", a loop over the experts, "grouped_mm", one product for all, or None for the faster one.

        Where torch has no grouped product for the weights, the loop runs: see ``grouped_experts.obstacle``.

        Raises:
            InputError: the name is unknown, or numerics are "reference", which is the loop.
        """
        if experts_implementation not in (None, *get_args(ExpertsImplementation)):
            raise InputError(
                f'experts_implementation must be "eager", "grouped_mm" or None, got {experts_implementation!r}'
            )
        if self.base_model.numerics == "reference" and experts_implementation != "eager":
            raise InputError(
                f'experts of numerics="reference" are "eager", got {experts_implementation!r}; load the model with '
                'numerics="fast"'
            )
        for layer in self.base_model.layers:
            layer.block_sparse_moe.experts.implementation = experts_implementation

    def separates_experts(self, instruments: Sequence[Instrument]) -> bool:
        """Return whether an instrument wants the outputs of single experts in any layer, which needs the loop."""
        return any(separates_experts(instruments, layer) for layer in range(self.config.num_hidden_layers))

    def experts_used(self, instruments: Sequence[Instrument] = ()) -> str:
        """Return "grouped_mm" or "eager", with what decides it, for calls with these instruments."""
        if self.separates_experts(instruments):
            return "eager (an instrument wants the experts one by one)"
        used: str = self.base_model.layers[0].block_sparse_moe.experts.used()
        return used

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Count parameters, a tied one once: all, those that require a gradient, or all but the embedding's."""
        left_out = self.get_input_embeddings().weight if exclude_embeddings else None
        counted = (p for p in self.parameters() if p is not left_out and (p.requires_grad or not only_trainable))
        return sum(parameter.numel() for parameter in counted)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """The bytes of the parameters, and of the buffers where wanted."""
        tensors = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(tensor.nbytes for tensor in tensors)

    @classmethod
    def can_generate(cls) -> bool:
        """Whether the class has ``generate``."""
        return hasattr(cls, "generate")

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of the tokens."""
        embedding: nn.Embedding = self.base_model.embed_tokens
        return embedding

    def set_input_embeddings(self, embedding: nn.Embedding) -> None:
        """Replace the embedding of the tokens, and a language head that is tied to it."""
        self.base_model.embed_tokens = embedding
        self.tie_weights()

    def get_output_embeddings(self) -> nn.Linear | None:
        """The language head; None for a model without one."""
        head: nn.Linear | None = getattr(self, "lm_head", None)
        return head

    def set_output_embeddings(self, head: nn.Linear) -> None:
        """Replace the language head.

        Raises:
            InputError: the model has none.
        """
        if self.get_output_embeddings() is None:
            raise InputError(f"a language head belongs to MixtralForCausalLM, got one for a {type(self).__name__}")
        self.lm_head = head

    def tie_weights(self) -> None:
        """Let the language head have the embedding's weight where the config says so."""
        head = self.get_output_embeddings()
        if head is not None and self.config.tie_word_embeddings:
            head.weight = self.get_input_embeddings().weight

    def enable_input_require_grads(self) -> None:
        """Let embeddings require a gradient, so that adapters train although every weight below them is frozen."""
        self.disable_input_require_grads()
        self._input_grads = self.get_input_embeddings().register_forward_hook(_require_grad)

    def disable_input_require_grads(self) -> None:
        """Take back ``enable_input_require_grads``."""
        if self._input_grads is not None:
            self._input_grads.remove()
            self._input_grads = None

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether layers run again for their gradients in training."""
        return self.base_model.checkpointing is not None

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """In training, run layers again for their gradients instead of keeping their activations.

        Args:
            activation_checkpointing_kwargs: of ``torch.utils.checkpoint.checkpoint``: ``preserve_rng_state``,
                ``determinism_check``, ``debug``. ``use_reentrant`` makes no difference: the non-reentrant form always
                runs, with the same gradients.
            every_n_layers: do so with every n-th layer only.
            offload: must be False.

        Raises:
            InputError: an argument is unknown, or ``offload`` is True.
        """
        if offload:
            raise InputError("activations stay on the device, got offload=True; leave it out")
        self.base_model.checkpointing = Checkpointing.of(activation_checkpointing_kwargs, every_n_layers)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        """Do as ``activation_checkpointing_enable``, whose older name this is."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **options)

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations for the gradients, which is faster."""
        self.base_model.checkpointing = None

    is_activation_checkpointing = is_gradient_checkpointing
    activation_checkpointing_disable = gradient_checkpointing_disable


def _require_grad(module: nn.Module, inputs: Any, output: Tensor) -> None:
    output.requires_grad_(True)
