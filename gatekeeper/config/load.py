"""A configuration file to settings, or every problem in it at once."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict

from gatekeeper.config.available import unavailable
from gatekeeper.config.checks import findings
from gatekeeper.config.decode import Decoder
from gatekeeper.config.key_folder import DEFAULT_FOLDER
from gatekeeper.config.problems import ConfigError, Problem
from gatekeeper.config.schema import Branding, Log, Secret, Settings, Store, Upstream
from gatekeeper.config.secret_checks import HOW_TO_MAKE_ONE
from gatekeeper.config.store_checks import SQLITE_FILE, sqlite_path
from gatekeeper.config.tree import Entry, MappingNode, Node, Place, Scalar, SequenceNode, TreeReader

__all__ = ["ConfigError", "Problem", "load_file", "load_text"]


def load_file(path: Path, environ: Mapping[str, str]) -> Settings:
    """The settings in this file.  Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem(str(path), "", 1, 1, f"cannot read it: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), "", 1, 1, "it is not UTF-8 text")]) from error
    return load_text(text, source=str(path), base_dir=path.parent, environ=environ)


def load_text(text: str, *, source: str, base_dir: Path, environ: Mapping[str, str]) -> Settings:
    """The settings in this text.  `source` is how problems call it; relative paths count from `base_dir`.

    Raises ConfigError with every problem.
    """
    reader = TreeReader(source, environ)
    tree = reader.read(text)
    if tree is None:
        raise ConfigError(reader.problems)
    decoder = Decoder(source, base_dir)
    settings = _decode(decoder, tree, reader.problems)
    if settings is not None:
        settings = _with_absolute_keys(_with_absolute_certificates(settings, base_dir), base_dir)
        settings = msgspec.structs.replace(settings, branding=_resolve_logo(settings.branding, base_dir))
    problems = reader.problems + decoder.problems
    if settings is not None:
        problems += _findings(decoder, settings, source)
    if settings is None or problems:
        raise ConfigError([_as_written(problem, decoder.places) for problem in problems])
    store, log = _resolve_store(settings.store, base_dir), _resolve_log(settings.log, base_dir)
    settings = msgspec.structs.replace(settings, store=store, log=log)
    return settings if settings.identity.assertion.keys else _with_keys(settings, base_dir / DEFAULT_FOLDER)


_FALLBACKS = {
    "upstream": Upstream("http://127.0.0.1:9"),
    "secrets": (Secret(1, "stands in for what could not be read"),),
    "store": Store(f"{SQLITE_FILE}auth.db"),
}
"""What stands in for required settings that could not be read, so that the rest is checked all the same."""


def _decode(decoder: Decoder, tree: Node, earlier: list[Problem]) -> Settings | None:
    """The settings, with fallbacks where something required could not be read: that is a problem of the decoder."""
    if not isinstance(tree, MappingNode):
        decoder.complain(tree.place, "", "expected settings, one a line: `upstream: http://127.0.0.1:3000`")
        return None
    unreadable = {problem.path for problem in earlier}
    tree = _with_secret_list(decoder, tree, unreadable)
    settings: Settings = decoder.decode_struct(Settings, tree, "", _FALLBACKS)
    decoder.problems = [problem for problem in decoder.problems if not _is_echo(problem, unreadable)]
    return settings


def _findings(decoder: Decoder, settings: Settings, source: str) -> list[Problem]:
    """What the checks find, but for what speaks of a fallback."""
    problems: list[Problem] = []
    for found, message in (*findings(settings), *unavailable(settings)):
        name = re.split(r"[.\[]", found, maxsplit=1)[0]
        is_fallback = getattr(settings, name) is _FALLBACKS.get(name, decoder)
        is_unreadable_list = found == name and decoder.kept.get(name) == []
        if is_fallback or (is_unreadable_list and any(bad.path.startswith(f"{name}[") for bad in decoder.problems)):
            continue
        path = _path_in_file(decoder, found)
        place = _place_of(decoder.places, path)
        problems.append(Problem(source, path, place.line, place.column, message))
    return problems


def _path_in_file(decoder: Decoder, path: str) -> str:
    """The path with the indexes of lists as they are in the file, where items before could not be read."""
    head, *rest = path.split("[")
    for part in rest:
        index, _, tail = part.partition("]")
        kept = decoder.kept.get(head)
        head += f"[{index if kept is None else kept[int(index)]}]{tail}"
    return head


def _is_echo(problem: Problem, unreadable: set[str]) -> bool:
    """Whether this says that something is missing which is there, but could not be read."""
    name, _, rest = problem.message.partition(" ")
    if rest != "is missing":
        return False
    path = f"{problem.path}.{name}" if problem.path else name
    return path in unreadable or any(bad.startswith(f"{path}.") for bad in unreadable)


def _with_secret_list(decoder: Decoder, tree: MappingNode, unreadable: set[str]) -> MappingNode:
    """The tree with `secret: x` written as `secrets: [{version: 1, value: x}]`."""
    single = tree.entries.get("secret")
    entries = {name: entry for name, entry in tree.entries.items() if name != "secret"}
    if single is None:
        if "secrets" not in entries and "secret" not in unreadable:
            hint = f"write secret: ${{BETTER_AUTH_SECRET}}; {HOW_TO_MAKE_ONE}"
            decoder.complain(tree.place, "", "there is no secret", hint)
        unreadable.add("secrets")
    elif "secrets" in entries:
        decoder.complain(single.place, "secret", "there are both secret and secrets", "keep one of them")
    else:
        place = single.node.place
        version = Entry(place, Scalar("1", "int", place))
        item = MappingNode({"version": version, "value": single}, place)
        entries["secrets"] = Entry(single.place, SequenceNode((item,), place))
    return MappingNode(entries, tree.place)


def _place_of(places: Mapping[str, Place], path: str) -> Place:
    """Where this path stands, or the nearest path around it that the file has."""
    while path:
        if path in places:
            return places[path]
        cut = max(path.rfind("."), path.rfind("["))
        path = path[: max(cut, 0)]
    return places.get("", Place(1, 1))


def _as_written(problem: Problem, places: Mapping[str, Place]) -> Problem:
    """The problem with the path that was written: `secret`, where that stands for `secrets[0].value`."""
    is_short = places.get("secrets[0]") is not None and places["secrets[0]"] == places.get("secrets[0].version")
    if is_short and problem.path.startswith("secrets[0]"):
        return msgspec.structs.replace(problem, path="secret")
    return problem


def _with_absolute_certificates(settings: Settings, base_dir: Path) -> Settings:
    """The settings with the files of certificates and keys counted from the configuration's folder."""

    def absolute(section: Any) -> Any:
        files = {name: str((base_dir / file).absolute()) for name, file in asdict(section).items() if file}
        return msgspec.structs.replace(section, **files)

    def resolved(upstream: Upstream) -> Upstream:
        return upstream if upstream.tls is None else replace(upstream, tls=absolute(upstream.tls))

    replace = msgspec.structs.replace
    return replace(
        settings,
        tls=None if settings.tls is None else absolute(settings.tls),
        upstream=resolved(settings.upstream),
        upstreams={name: resolved(upstream) for name, upstream in settings.upstreams.items()},
    )


def _with_absolute_keys(settings: Settings, base_dir: Path) -> Settings:
    """The settings with the folder of the assertion's keys, if it is named, counted from the configuration's folder."""
    keys = settings.identity.assertion.keys
    return _with_keys(settings, base_dir / keys) if keys else settings


def _with_keys(settings: Settings, folder: Path) -> Settings:
    replace = msgspec.structs.replace
    assertion = replace(settings.identity.assertion, keys=str(folder.absolute()))
    return replace(settings, identity=replace(settings.identity, assertion=assertion))


def _resolve_log(log: Log, base_dir: Path) -> Log:
    """The log with the path of its file made absolute."""
    return log if log.file is None else msgspec.structs.replace(log, file=str((base_dir / log.file).absolute()))


def _resolve_logo(branding: Branding, base_dir: Path) -> Branding:
    """The branding with the path of the logo made absolute."""
    logo = branding.logo
    return branding if logo is None else msgspec.structs.replace(branding, logo=str((base_dir / logo).absolute()))


def _resolve_store(store: Store, base_dir: Path) -> Store:
    """The store with the path of an SQLite file made absolute; links are followed when it is opened, not now."""
    if not store.url.startswith(SQLITE_FILE):
        return store
    path = (base_dir / sqlite_path(store.url)).absolute()
    return msgspec.structs.replace(store, url=f"{SQLITE_FILE}{path}")
