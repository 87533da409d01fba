"""Messages to a prompt, and the model's answer back to a message: templates, tools, schemas, reasoning."""

from gollama.chat.formatter import ChatFormatter
from gollama.chat.messages import Message

__all__ = ["ChatFormatter", "Message"]
