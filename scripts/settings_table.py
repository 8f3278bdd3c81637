"""Writes the table of settings into docs/configuration.md, from the schema: `python scripts/settings_table.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from gatekeeper.config.available import unavailable_paths
from gatekeeper.config.schema import Duration, Rate, Settings, Size

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"


def leaves(kind: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, Any, Any, str]]:
    """Path, type, default and text of each setting; `[]` stands for the items of a list."""
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        annotated = hints[field.name]
        inner, text = get_args(annotated) if get_origin(annotated) is Annotated else (annotated, "")
        where = f"{path}{field.name}"
        nested = _struct_in(inner)
        if nested is None:
            yield where, inner, field.default if field.default_factory is msgspec.NODEFAULT else {}, text
        else:
            mark = {tuple: "[]", dict: ".*"}.get(get_origin(inner), "")
            yield from leaves(nested, f"{where}{mark}.")


def table() -> str:
    """The table as Markdown."""
    later = set(unavailable_paths())
    lines = ["| setting | default | what it means |", "|---|---|---|"]
    for path, kind, default, text in leaves(Settings):
        note = " *Not available yet.*" if path in later else ""
        cell = text.replace("|", "\\|")
        lines.append(f"| `{path}` | {_shown(kind, default)} | {cell}{note} |")
    return "\n".join(lines) + "\n"


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    for option in (kind, *get_args(kind)):
        if isinstance(option, type) and issubclass(option, msgspec.Struct) and option is not Rate:
            return option
    return None


def _shown(kind: Any, default: Any) -> str:
    if default is msgspec.NODEFAULT:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, Rate):
        return f"`{default.count}/{_duration(default.per)}`"
    if Duration in (kind, *get_args(kind)):
        return f"`{_duration(default)}`"
    if Size in (kind, *get_args(kind)):
        return f"`{default // 1024}KiB`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "`[]`" if default == () else f"`{default}`"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s" if seconds else "0"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
