"""Messages to a prompt, and the model's answer back to a message: templates, tools, schemas, reasoning."""

from gollama.chat.formatter import ChatFormatter
from gollama.chat.functions import Function
from gollama.chat.messages import Message
from gollama.chat.schemas import Schema

__all__ = ["ChatFormatter", "Function", "Message", "Schema"]
