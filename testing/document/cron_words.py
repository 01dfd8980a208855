"""A cron in words, for people: the common ones; of others the five fields have to do."""

import re

from testing.document.cron import SHORT, WEEKDAYS

DAY_NAMES = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
STEP = re.compile(r"\*/([0-9]{1,2})")
DAYS = re.compile(r"([a-z0-9]+)(?:-([a-z0-9]+))?")


def in_words(cron: str) -> str:
    """Return when it comes, such as "at 03:00, Monday to Friday"; "" where that would be no plain sentence."""
    fields = SHORT.get(cron.strip().lower(), cron).lower().split()
    if len(fields) != 5 or fields[2] != "*" or fields[3] != "*":
        return ""
    at, days = _time(fields[0], fields[1]), _days(fields[4])
    return f"{at}, {days}" if at and days else ""


def _time(minute: str, hour: str) -> str:
    if minute.isdigit() and hour.isdigit():
        return f"at {int(hour):02}:{int(minute):02}"
    if hour != "*":
        return ""
    if minute == "*":
        return "every minute"
    if minute.isdigit():
        return f"every hour at {int(minute)} past" if int(minute) else "every hour"
    step = STEP.fullmatch(minute)
    return f"every {int(step[1])} minutes" if step and int(step[1]) > 1 and 60 % int(step[1]) == 0 else ""


def _days(weekday: str) -> str:
    if weekday == "*":
        return "every day"
    found = []
    for item in weekday.split(","):
        days = DAYS.fullmatch(item)
        names = [_day(day) for day in days.groups() if day] if days else [""]
        if "" in names:
            return ""
        found.append(" to ".join(names))
    return ", ".join(found)


def _day(name: str) -> str:
    if name in WEEKDAYS:
        return DAY_NAMES[WEEKDAYS.index(name)]
    return DAY_NAMES[int(name)] if name.isdigit() and int(name) < len(DAY_NAMES) else ""
