"""Currency pairs in the names of files."""

from __future__ import annotations

import re

_CURRENCIES = frozenset(
    re.findall(
        r"\w{3}",
        "USD EUR GBP JPY CHF AUD NZD CAD SEK NOK DKK PLN CZK HUF TRY ZAR MXN SGD HKD CNH CNY RUB ILS THB INR KRW BRL "
        "RON XAU XAG XPT XPD",
    )
)


def pair_in(name: str) -> str | None:
    """The first pair such as ``EURUSD`` in a name, upper case; none where there is no pair."""
    for word in re.findall(r"[A-Za-z]+", name):
        if len(word) == 6 and {word[:3].upper(), word[3:].upper()} <= _CURRENCIES:
            return str(word.upper())
    return None
