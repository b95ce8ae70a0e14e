"""Text ⇄ token ids, and conversations as the text a model was trained on."""

from mixtral_probe.tokenizer.chat import ChatTemplate, Message
from mixtral_probe.tokenizer.tokenizer import Encoding, Tokenizer

__all__ = ["ChatTemplate", "Encoding", "Message", "Tokenizer"]
