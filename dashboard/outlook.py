"""The forecasts of a project in a few words, the most pressing one first."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from scanners import trend
from scanners.trend import Forecast, State

SOON_DAYS = 30
MEASURES = {"bytes": "Space", "inodes": "Inodes"}

_WORDS = {
    State.NO_QUOTA: "no quota",
    State.TOO_FEW: f"needs {trend.MIN_SCANS} scans",
    State.FAR: "not full in ten years",
    State.NOT_GROWING: "not growing",
}


@dataclass(frozen=True)
class Outlook:
    """`words` for a column, the `sentence` behind them, and a `tone` as the style sheet has it."""

    words: str
    sentence: str
    tone: str


def of(found: Mapping[str, Forecast], now: datetime) -> Outlook:
    """What is full first: space or inodes; else what can be said of space."""
    pressing = sorted(
        (days, measure)
        for measure, forecast in found.items()
        if (days := trend.days_left(forecast, now)) is not None
    )
    measure = pressing[0][1] if pressing else "bytes"
    forecast = found[measure]
    sentence = f"{MEASURES[measure]}: {trend.sentence(forecast, now)}"
    if forecast.state is State.FULL and forecast.full_at:
        since = forecast.full_at.date().isoformat()
        return Outlook(f"{MEASURES[measure]} full since {since}", sentence, "over")
    if pressing:
        days = pressing[0][0]
        tone = "near" if days < SOON_DAYS else "ok"
        return Outlook(f"{MEASURES[measure]} full in {days:.0f} days", sentence, tone)
    return Outlook(_WORDS.get(forecast.state, str(forecast.state)), sentence, "plain")
