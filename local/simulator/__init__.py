"""The far end of the network on this machine: a simulated OpenRouter, a simulated chat worker, and their server."""

from local.simulator.app import create_app
from local.simulator.faults import FAULTS, Fault
from local.simulator.server import running
from local.simulator.worker import create_worker

__all__ = ["FAULTS", "Fault", "create_app", "create_worker", "running"]
