"""The public model classes: the forward pass of ``mixtral_probe.model`` with reading and writing of folders."""

from mixtral_probe import model
from mixtral_probe.checkpoint.pretrained import Pretrained


class MixtralModel(Pretrained, model.MixtralModel):
    """Mixtral without its language head; arguments and outputs are those of ``mixtral_probe.model.MixtralModel``."""


class MixtralForCausalLM(Pretrained, model.MixtralForCausalLM):
    """Mixtral with its language head; see ``mixtral_probe.model.MixtralForCausalLM`` for arguments and outputs."""

    decoder_class = MixtralModel


class MixtralForSequenceClassification(Pretrained, model.MixtralForSequenceClassification):
    """Mixtral that classifies sequences; see ``mixtral_probe.model.MixtralForSequenceClassification``."""

    decoder_class = MixtralModel


class MixtralForTokenClassification(Pretrained, model.MixtralForTokenClassification):
    """Mixtral that classifies tokens; see ``mixtral_probe.model.MixtralForTokenClassification``."""

    decoder_class = MixtralModel


class MixtralForQuestionAnswering(Pretrained, model.MixtralForQuestionAnswering):
    """Mixtral that finds answers in a text; see ``mixtral_probe.model.MixtralForQuestionAnswering``."""

    decoder_class = MixtralModel
