"""Text ⇄ token ids, and conversations as text in the format of the model."""

from mixtral_probe.tokenizer.chat import ChatTemplate, Message
from mixtral_probe.tokenizer.tokenizer import Encoding, Tokenizer

__all__ = ["ChatTemplate", "Encoding", "Message", "Tokenizer"]
