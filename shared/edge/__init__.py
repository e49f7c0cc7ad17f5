"""HTTP for every door: addresses, bodies, callers, errors, streams. It knows nothing of chat."""

from shared.edge.app import application
from shared.edge.contract import Contract
from shared.edge.door import Answer, Call, Door, EventStream, Reply
from shared.edge.events import Event, KeepAlive

__all__ = ["Answer", "Call", "Contract", "Door", "Event", "EventStream", "KeepAlive", "Reply", "application"]
