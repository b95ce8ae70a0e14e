"""Edits of the forward pass as plain data: they can be attached to any call, and nothing stays on the model.

>>> import mixtral_probe as mp
>>> print(mp.edits.MaskExpert(layer=3, expert=5))
in layer 3: expert 5 cannot be chosen (router logit −∞), the next best takes over, and the weights of the chosen are \
renormalised to sum to 1
"""

from mixtral_probe.instruments.edits.choices import ForceExperts, RandomRouting, SwapExperts, TopK
from mixtral_probe.instruments.edits.edit import Edit, PlacedEdit
from mixtral_probe.instruments.edits.file import EDITS_VERSION, KINDS, from_json, load, save, to_json
from mixtral_probe.instruments.edits.function import Function
from mixtral_probe.instruments.edits.logits import BiasRouter, MaskExpert, NoiseRouter, Temperature
from mixtral_probe.instruments.edits.outputs import MaskHead, MeanExpert, ScaleHead, ZeroExpert
from mixtral_probe.instruments.edits.replay import ReplayRouting
from mixtral_probe.instruments.edits.rows import BatchRow
from mixtral_probe.instruments.edits.text import parse, spell

__all__ = [
    "EDITS_VERSION",
    "KINDS",
    "BatchRow",
    "BiasRouter",
    "Edit",
    "ForceExperts",
    "Function",
    "MaskExpert",
    "MaskHead",
    "MeanExpert",
    "NoiseRouter",
    "PlacedEdit",
    "RandomRouting",
    "ReplayRouting",
    "ScaleHead",
    "SwapExperts",
    "Temperature",
    "TopK",
    "ZeroExpert",
    "from_json",
    "load",
    "parse",
    "save",
    "spell",
    "to_json",
]
