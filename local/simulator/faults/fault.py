"""What a fault is: a name, where it is documented, and what happens on the socket in both modes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from local.simulator.wire import Reply, Script

Value = str | float | bool | None
Ending = Literal["complete", "close", "hang"]


class BadFault(ValueError):
    """A test asked for a fault or an option that does not exist."""


@dataclass(frozen=True)
class Options:
    """A fault's settings; texts from a header and values from JSON are read alike."""

    values: Mapping[str, Value]

    def number(self, name: str) -> float:
        value = self.values[name]
        if value is None:
            raise BadFault(f"Option {name} must be a number.")
        try:
            return float(value)
        except ValueError as exc:
            raise BadFault(f"Option {name} must be a number, not {value!r}.") from exc

    def text(self, name: str) -> str:
        return str(self.values[name])

    def is_on(self, name: str) -> bool:
        return str(self.values.get(name)).lower() in {"1", "true", "yes"}


Scripted = Callable[[Reply, Options], Script]


@dataclass(frozen=True)
class Fault:
    """One way in which the far end misbehaves.

    `status` is what the caller sees in both modes, None when no status line is ever sent. `refuses` means that
    nothing was generated, so the next model of a `models` list is tried. A `hang` lasts until the caller leaves.
    """

    name: str
    description: str
    section: str
    plain: Scripted
    stream: Scripted
    status: int | None = 200
    plain_ends: Ending = "complete"
    stream_ends: Ending = "complete"
    refuses: bool = False
    options: Mapping[str, Value] = field(default_factory=dict)

    def with_options(self, given: Mapping[str, Value]) -> Options:
        """The defaults overlaid with `given`; an option the fault does not know is an error."""
        unknown = sorted(set(given) - set(self.options))
        if unknown:
            known = ", ".join(sorted(self.options)) or "none"
            raise BadFault(f"Fault {self.name} has no option {', '.join(unknown)}; it has {known}.")
        options = Options({**self.options, **given})
        for name, default in self.options.items():
            if isinstance(default, (int, float)) and not isinstance(default, bool):
                options.number(name)
        return options
