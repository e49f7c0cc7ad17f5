"""`python -m local`: hears a signal from its first moment, before anything heavy is imported."""

from __future__ import annotations

import sys

from local import interrupts


def main() -> int:
    arguments = sys.argv[1:]
    interrupts.leave_quietly(0 if arguments[:1] == ["up"] else 130)
    from local import commands

    return commands.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
