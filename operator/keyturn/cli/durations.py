"""Durations on the command line."""

import re
from typing import Any

import click

from keyturn.api.times import DURATION, duration


class Seconds(click.ParamType[int]):
    """A duration of at least a second, such as 90s, 2m or 1h30m, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        seconds = 0
        if text.isascii() and text.isdigit():
            seconds = int(text)
        elif re.fullmatch(DURATION, text):
            seconds = int(duration(text).total_seconds())
        if seconds < 1:
            self.fail(f"{text} is not a duration of at least a second, such as 90s or 2m", param, ctx)
        return seconds
