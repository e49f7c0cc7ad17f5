"""What the caller of `casual-chat` sends."""

from shared.generation import ConversationRequest


class CasualChatRequest(ConversationRequest):
    """A casual conversation: `messages` or `message`."""
