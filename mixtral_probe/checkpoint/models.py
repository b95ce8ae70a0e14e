"""The public model classes: the forward pass of ``mixtral_probe.model`` with ways from and to a folder."""

from mixtral_probe import model
from mixtral_probe.checkpoint.pretrained import Pretrained


class MixtralModel(Pretrained, model.MixtralModel):
    """Mixtral without its language head; arguments and outputs are those of ``mixtral_probe.model.MixtralModel``."""


class MixtralForCausalLM(Pretrained, model.MixtralForCausalLM):
    """Mixtral with its language head; see ``mixtral_probe.model.MixtralForCausalLM`` for arguments and outputs."""
