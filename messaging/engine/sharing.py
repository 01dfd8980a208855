"""How the places of an interface are shared among priorities: pure.

Higher ones go first. Of sixteen places one goes to whoever of the lower priorities has
been due the longest, so that no flood of higher ones keeps a lower one waiting for ever.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

LOWER_SHARE = 1 / 16

Target = tuple[int, str, int, datetime]  # system id, interface, priority, due since


class Sharing:
    """Remembers what is owed to the lower priorities of each interface: a place may take several turns to fill."""

    def __init__(self) -> None:
        self._owed: dict[tuple[int, str], float] = {}

    def split(self, targets: Sequence[Target], room: int) -> Iterator[tuple[Target, int]]:
        """Yield (target, most to claim) in turn; `targets` are of one interface, higher priorities first.

        What a target leaves of `room` goes on to the next.
        """
        interface = targets[0][:2]
        if len(targets) == 1:
            self._owed.pop(interface, None)
        else:
            owed = self._owed.get(interface, 0.0) + room * LOWER_SHARE
            places = min(int(owed), room)
            self._owed[interface] = owed - places
            if places:
                yield min(targets[1:], key=lambda target: target[3]), places
        for target in targets:
            yield target, room
