"""How places are shared among priorities: a pure rule, so every case is a line."""

from datetime import UTC, datetime, timedelta

from messaging.engine.sharing import Sharing, Target

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def due(priority: int, since_s: float = 0.0) -> Target:
    return (1, "main", priority, NOW - timedelta(seconds=since_s))


def given(sharing: Sharing, targets: list[Target], room: int) -> dict[int, int]:
    """Return how many places each priority gets when there is enough of all."""
    places: dict[int, int] = {}
    for target, most in sharing.split(targets, room):
        taken = min(most, room)
        places[target[2]] = places.get(target[2], 0) + taken
        room -= taken
    return {priority: count for priority, count in places.items() if count}


def test_a_priority_alone_gets_every_place() -> None:
    assert given(Sharing(), [due(0)], 32) == {0: 32}


def test_one_place_in_sixteen_goes_to_the_longest_due_of_the_lower() -> None:
    """Whatever its priority: the low one waits longer than the normal one."""
    assert given(Sharing(), [due(3), due(1, 5), due(0, 60)], 32) == {3: 30, 0: 2}
    assert given(Sharing(), [due(3), due(1, 60), due(0, 5)], 32) == {3: 30, 1: 2}


def test_a_place_that_is_owed_is_not_forgotten() -> None:
    """An interface with one place at a time gives each sixteenth turn away."""
    sharing = Sharing()
    turns = [given(sharing, [due(2), due(0)], 1) for _ in range(32)]

    assert [turn for turn, places in enumerate(turns) if places == {0: 1}] == [15, 31]


def test_what_the_higher_leave_goes_on_to_the_lower() -> None:
    """Nothing is kept free for anybody."""
    offers = list(Sharing().split([due(2), due(1), due(0)], 8))

    assert [(target[2], most) for target, most in offers] == [(2, 8), (1, 8), (0, 8)]


def test_nothing_is_owed_for_a_time_in_which_nobody_lower_waited() -> None:
    sharing = Sharing()
    for _ in range(15):
        given(sharing, [due(2), due(0)], 1)
    given(sharing, [due(2)], 1)

    assert given(sharing, [due(2), due(0)], 1) == {2: 1}
