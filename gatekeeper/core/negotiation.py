"""Page or document: what a client waits for, by its headers alone.

Needs nothing beside the standard library: the app's half (`gatekeeper.integrations`) answers by the same rule.
"""

_JSON_RANGES = ("application/json", "application/*", "*/*")


def prefers_page(sec_fetch_mode: str | None, accept: str | None) -> bool:
    """Whether a person waits for a page: `Sec-Fetch-Mode: navigate`, or else an Accept that names `text/html` with
    no lower preference than JSON.  Headers that were not sent are None.
    """
    if sec_fetch_mode is not None:
        return sec_fetch_mode == "navigate"
    ranges = _accepted(accept or "")
    html = ranges.get("text/html", 0.0)
    json = next((ranges[name] for name in _JSON_RANGES if name in ranges), 0.0)
    return html > 0 and html >= json


def _accepted(accept: str) -> dict[str, float]:
    """Media ranges of an Accept header with their quality (RFC 9110 §12.5.1); a broken quality counts as 0."""
    ranges: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = part.split(";")
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                quality = _quality(value.strip())
        key = name.strip().lower()
        ranges[key] = max(quality, ranges.get(key, 0.0))
    return ranges


def _quality(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value <= 1.0 else 0.0
