"""Every way in which the simulated OpenRouter can misbehave, by name."""

from collections.abc import Mapping

from local.simulator.catalog import FAULT_FAMILY
from local.simulator.faults.bodies import all_bodies
from local.simulator.faults.fault import BadFault, Fault, Options, Value
from local.simulator.faults.refusals import all_refusals
from local.simulator.faults.sockets import all_sockets
from local.simulator.faults.streams import all_streams

__all__ = ["FAULTS", "BadFault", "Fault", "Options", "Value", "from_header", "from_model", "named"]


def _registry() -> dict[str, Fault]:
    faults: dict[str, Fault] = {}
    for fault in (*all_refusals(), *all_bodies(), *all_sockets(), *all_streams()):
        if fault.name in faults:
            raise BadFault(f"Two faults are called {fault.name}.")
        faults[fault.name] = fault
    return faults


FAULTS: dict[str, Fault] = _registry()


def named(name: str, options: Mapping[str, Value]) -> tuple[Fault, Options]:
    """The fault of this name with its options; an unknown name or option raises BadFault."""
    fault = FAULTS.get(name)
    if fault is None:
        raise BadFault(f"There is no fault called {name!r}; GET /_sim/registry lists them.")
    return fault, fault.with_options(options)


def from_header(text: str) -> tuple[Fault, Options]:
    """Read `X-Sim-Fault: name,key=value,...`."""
    name, *pairs = (part.strip() for part in text.split(","))
    options: dict[str, Value] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadFault(f"X-Sim-Fault wants key=value after the name, not {pair!r}.")
        options[key] = value
    return named(name, options)


def from_model(slug: str) -> tuple[Fault, Options, int | None] | None:
    """Read `sim/<fault>` (always) or `sim/<fault>/<n>` (the first n times); None for any other model."""
    if not slug.startswith(FAULT_FAMILY):
        return None
    name, _, times = slug.removeprefix(FAULT_FAMILY).partition("/")
    if name not in FAULTS or (times and not times.isdigit()):
        return None
    return *named(name, {}), int(times) if times else None
