"""Accounts mode: what it needs, and settings that mean nothing with it or without it."""

import pytest

from gatekeeper.config.snapshot import compile_settings
from gatekeeper.stores.records import OPTIONAL_SESSION_FIELDS, OPTIONAL_USER_FIELDS, SESSION_FIELDS, USER_FIELDS
from tests.config.loading import BASE, load, problems_of

ON = BASE + "accounts: {enabled: true}\n"


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (BASE + "accounts: {sign_up: true}\n", "accounts.sign_up", "set accounts.enabled"),
        (BASE + "accounts: {smtp: 'smtp://127.0.0.1?from=a@b.test'}\n", "accounts.smtp", "set accounts.enabled"),
        (ON.replace("true}", "true, smtp: 'smtp://127.0.0.1?from=a@b.test'}"), "accounts.smtp", "public_url"),
        (
            ON.replace("true}", "true, smtp: 'http://127.0.0.1'}") + "public_url: https://app.example.com\n",
            "accounts.smtp",
            "smtp://",
        ),
        (BASE + "limits: {sign_in_attempts: 9/1m}\n", "limits.sign_in_attempts", "set accounts.enabled"),
        (ON.replace("sqlite:///auth.db", "redis://127.0.0.1"), "store.url", "kept in a database"),
        (ON.replace("sqlite:///auth.db", "https://app.example.com/api/auth"), "store.url", "kept in a database"),
        (
            ON.replace("sqlite:///auth.db", "{url: sqlite:///auth.db, secondary: redis://127.0.0.1}"),
            "store.secondary",
            "in the database alone",
        ),
        (
            ON.replace("sqlite:///auth.db", "{url: sqlite:///auth.db, tables: {user: users}}"),
            "store",
            "Better Auth's own names",
        ),
        (
            ON.replace("sqlite:///auth.db", "{url: sqlite:///auth.db, columns: {user: {name: n}}}"),
            "store",
            "Better Auth's own names",
        ),
        (
            ON.replace("sqlite:///auth.db", "{url: sqlite:///auth.db, fields: {user: [plan, role]}}"),
            "store.fields.user[1]",
            "may change their own fields",
        ),
        (
            ON.replace("sqlite:///auth.db", "{url: sqlite:///auth.db, fields: {session: [userId]}}"),
            "store.fields.session[0]",
            "may change their own fields",
        ),
        (
            ON + "protect: [{path: /x, require: {organizations: [a]}}]\n",
            "protect[0].require.organizations",
            "no organizations",
        ),
        (ON + "session: {serve_get_session: true}\n", "session.serve_get_session", "anyway"),
        (ON.replace("true}", "true, base_path: /}"), "accounts.base_path", "of its own"),
        *(
            (ON.replace("true}", f"true, base_path: '{path}'}}"), "accounts.base_path", "of its own")
            for path in (
                *(
                    "/.gatekeeper/auth",
                    "/.Gatekeeper./auth",
                    "/.gatekeeper;x/auth",
                    "/%2Egatekeeper",
                    "/a/../.gatekeeper",
                ),
                *("/.well-known;a", "/;x", "/...", "/%3Bx", "/sign-in", "/Sign-In./", "/sign-up;x"),
            )
        ),
        (ON.replace("true}", "true, min_password_length: 0}"), "accounts.min_password_length", "1 to 128"),
        (ON.replace("true}", "true, min_password_length: 129}"), "accounts.min_password_length", "1 to 128"),
        (ON + "limits: {sign_in_attempts: 0/1m}\n", "limits.sign_in_attempts", "at least one"),
        (ON + "limits: {sign_in_attempts: 5/500ms}\n", "limits.sign_in_attempts", "at least one"),
        (ON + "session: {expires_in: 401d}\n", "session.expires_in", "400 days at most"),
    ],
)
def test_what_does_not_fit(text: str, path: str, message: str) -> None:
    (found,) = problems_of(text)
    assert (found.path, message in found.message) == (path, True)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("user", (*USER_FIELDS, *OPTIONAL_USER_FIELDS)),
        ("session", (*SESSION_FIELDS, *OPTIONAL_SESSION_FIELDS)),
    ],
)
def test_nobody_may_be_let_change_what_the_gate_goes_by(kind: str, names: tuple[str, ...]) -> None:
    fields = f"{{url: sqlite:///auth.db, fields: {{{kind}: [{', '.join(names)}]}}}}"
    found = problems_of(ON.replace("sqlite:///auth.db", fields))
    assert [problem.path for problem in found] == [f"store.fields.{kind}[{index}]" for index in range(len(names))]
    load(BASE.replace("sqlite:///auth.db", fields))


@pytest.mark.parametrize("path", ["/sign", "/sign-in-calls", "/x/sign-in"])
def test_a_base_path_beside_the_sign_in_page(path: str) -> None:
    load(ON.replace("true}", f"true, base_path: {path}}}"))


def test_with_deny_by_default_the_gates_own_calls_need_no_rule() -> None:
    load(ON + "default: session\npublic: [/sign-in]\n")


@pytest.mark.parametrize(
    ("more", "strips"),
    [
        ("", True),
        ("identity: {strip_session_cookies: auto}\n", True),
        ("identity: {strip_session_cookies: false}\n", False),
    ],
)
def test_the_app_does_not_see_session_cookies(more: str, strips: bool) -> None:
    assert compile_settings(load(ON + more)).strip_session_cookies is strips
    assert compile_settings(load(BASE)).strip_session_cookies is None


def test_account_calls_are_own_paths_where_the_gate_has_the_accounts() -> None:
    assert ("api", "auth") not in compile_settings(load(BASE)).own_paths
    assert ("api", "auth") in compile_settings(load(ON)).own_paths
    assert ("my", "auth") in compile_settings(load(ON.replace("true}", "true, base_path: /my//auth/}"))).own_paths
