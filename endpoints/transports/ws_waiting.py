"""Who waits for what on one WebSocket connection: messages for their answers, and for the pongs of pings."""

from collections import OrderedDict
from collections.abc import Iterator

from endpoints.transports.ws_answers import KINDS, Answer, Name, names
from endpoints.transports.ws_exchange import Turn


class Waiting:
    """The messages under way; `is_shared` when they may be many, and an answer has to name its own."""

    def __init__(self, *, is_shared: bool) -> None:
        self._is_shared = is_shared
        self._turns: dict[Turn, None] = {}  # that wait for an answer, in the order they were sent
        self._named: dict[Name, dict[Turn, None]] = {}
        self._unconfirmed: OrderedDict[Turn, int] = OrderedDict()  # that wait for the pong of the ping of this number

    def __len__(self) -> int:
        return len(self._turns) + len(self._unconfirmed)

    def __iter__(self) -> Iterator[Turn]:
        yield from self._turns
        yield from self._unconfirmed

    def for_answer(self, turn: Turn) -> None:
        """Let a message wait for its answer."""
        self._turns[turn] = None
        if self._is_shared:
            for name in turn.names():
                self._named.setdefault(name, {})[turn] = None

    def for_pong(self, turn: Turn, number: int) -> None:
        """Let a message wait for the pong of a ping."""
        self._unconfirmed[turn] = number

    def remove(self, turn: Turn) -> bool:
        """Take away a message that waits for anything; say whether it waited for its answer."""
        self._unconfirmed.pop(turn, None)
        if turn not in self._turns:
            return False
        turn.was_alone = len(self) == 1
        del self._turns[turn]
        for name in turn.names() if self._is_shared else ():
            same = self._named.get(name, {})
            same.pop(turn, None)
            if not same:
                self._named.pop(name, None)
        return True

    def answered_by(self, answer: Answer) -> Turn | None:
        """Take away the message that this is the answer to; None when it is to none of them."""
        if not self._turns:
            return None
        turn = self._named_by(answer) if self._is_shared else self._only_one(answer)
        if turn is not None:
            self.remove(turn)
        return turn

    def _only_one(self, answer: Answer) -> Turn | None:
        """Return the message under way, unless the answer names another."""
        turn = next(iter(self._turns))
        if answer.members is not None:
            given = list(names(answer.members))
            if given and {value for _, value in turn.names()}.isdisjoint(given):
                return None
        return turn

    def _named_by(self, answer: Answer) -> Turn | None:
        """Return the message an answer names, by an id of ours before all else; of several the one sent first."""
        given = list(names(answer.members))
        for kind in KINDS:
            for value in given:
                if found := self._named.get((kind, value)):
                    return next(iter(found))
        return None

    def confirm(self, number: int) -> None:
        """Take a pong for all pings up to this one (RFC 6455, 5.5.3): what was sent before them has been read."""
        waiting = self._unconfirmed
        while waiting and next(iter(waiting.values())) <= number:
            waiting.popitem(last=False)[0].settle(None)

    def take_all(self) -> list[Turn]:
        """Take all of them away."""
        turns = list(self)
        for turn in turns:
            turn.was_alone = len(turns) == 1
        self._turns.clear()
        self._named.clear()
        self._unconfirmed.clear()
        return turns
