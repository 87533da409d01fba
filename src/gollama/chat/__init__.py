"""Messages to a prompt, and the model's answer back to a message: templates, tools, schemas, reasoning."""

from gollama.chat.formatter import ChatFormatter, ChatPrompt
from gollama.chat.messages import AssistantMessage, Message, SystemMessage, TextPart, ToolMessage, UserMessage, as_dict
from gollama.chat.options import ChatOptions, split_options
from gollama.chat.replies import Reply, ReplyDelta, ReplyStream
from gollama.chat.tools import Tool

__all__ = [
    "AssistantMessage",
    "ChatFormatter",
    "ChatOptions",
    "ChatPrompt",
    "Message",
    "Reply",
    "ReplyDelta",
    "ReplyStream",
    "SystemMessage",
    "TextPart",
    "Tool",
    "ToolMessage",
    "UserMessage",
    "as_dict",
    "split_options",
]
