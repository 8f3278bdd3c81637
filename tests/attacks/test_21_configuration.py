"""Class 21: configurations that would leave the gate open, and what a start with them says."""

from pathlib import Path

import pytest

from gatekeeper.config.load import load_text
from gatekeeper.config.problems import ConfigError
from tests.attacks.site import STRONG

BASE = {
    "listen": "0.0.0.0:8080",
    "upstream": "http://127.0.0.1:3000",
    "secret": STRONG,
    "store": "sqlite:///auth.db",
    "protect": "[/dashboard]",
}


def problems(**changes: str | None) -> list[str]:
    """The paths of what is wrong with the base and these changes; None takes a setting away."""
    settings = {name: value for name, value in (BASE | changes).items() if value is not None}
    text = "".join(f"{name}: {value}\n" for name, value in settings.items())
    try:
        load_text(text, source="test.yaml", base_dir=Path(), environ={})
    except ConfigError as error:
        return [problem.path for problem in error.problems]
    return []


def test_the_base_is_fine() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        # secrets
        ({"secret": None}, ""),
        ({"secret": "''"}, "secret"),
        ({"secret": "short"}, "secret"),
        ({"secret": "a" * 64}, "secret"),
        ({"secret": "abababababababababababababababababab"}, "secret"),
        ({"secret": "better-auth-secret-123456789012345678"}, "secret"),
        ({"secret": "CHANGE_ME_please_CHANGE_ME_please_now"}, "secret"),
        ({"secret": "${UNSET}"}, "secret"),
        (
            {"secret": None, "secrets": f"[{{version: 2, value: {STRONG}}}, {{version: 1, value: short}}]"},
            "secrets[1].value",
        ),
        ({"secret": None, "secrets": "[]"}, "secrets"),
        # whom to believe
        ({"trusted_proxies": "[0.0.0.0/0]"}, "trusted_proxies[0]"),
        ({"trusted_proxies": "['::/0']"}, "trusted_proxies[0]"),
        ({"trusted_proxies": "['::ffff:0:0/96']"}, "trusted_proxies[0]"),
        ({"trusted_proxies": "[127.0.0.1, 1.2.3.4/0]"}, "trusted_proxies[1]"),
        ({"trusted_proxies": "['*']"}, "trusted_proxies[0]"),
        ({"trusted_proxies": "[all]"}, "trusted_proxies[0]"),
        ({"trusted_proxies": "[proxy.example.test]"}, "trusted_proxies[0]"),
        ({"trusted_origins": "['*']"}, "trusted_origins[0]"),
        ({"trusted_origins": "['null']"}, "trusted_origins[0]"),
        ({"trusted_origins": "['https://*.example.test']"}, "trusted_origins[0]"),
        ({"trusted_origins": "['https://app.example.test/']"}, "trusted_origins[0]"),
        ({"trusted_origins": "['javascript:x']"}, "trusted_origins[0]"),
        ({"websocket": "{origins: ['*']}"}, "websocket.origins[0]"),
        # patterns
        ({"protect": "[dashboard]"}, "protect[0].path"),
        ({"protect": "['']"}, "protect[0].path"),
        ({"protect": "['*']"}, "protect[0].path"),
        ({"protect": "['^/dashboard']"}, "protect[0].path"),
        ({"protect": "['/dash(board)?']"}, "protect[0].path"),
        ({"protect": "[/dashboard/../x]"}, "protect[0].path"),
        ({"protect": "[/./dashboard]"}, "protect[0].path"),
        ({"protect": "[//dashboard]"}, "protect[0].path"),
        ({"protect": "['/dash%62oard']"}, "protect[0].path"),
        ({"protect": "['/dashboard;x']"}, "protect[0].path"),
        ({"protect": "['/dashboard#x']"}, "protect[0].path"),
        ({"protect": "['/dash\\\\board']"}, "protect[0].path"),
        ({"protect": "['/dash board']"}, "protect[0].path"),
        ({"protect": "['/...']"}, "protect[0].path"),
        ({"protect": "[http://h/dashboard]"}, "protect[0].path"),
        ({"protect": "[/dashboard, /Dashboard]"}, "protect[1].path"),
        ({"protect": "[/dashboard, /dashboard/]"}, "protect[1].path"),
        ({"protect": "[/dashboard, /dashboard.]"}, "protect[1].path"),
        ({"public": "[/dashboard]"}, "public[0].path"),
        ({"public": "['/a%2f']"}, "public[0].path"),
        ({"protect": "[{path: /x, methods: []}]"}, "protect[0].methods"),
        ({"protect": "[{path: /x, methods: [get]}]"}, "protect[0].methods[0]"),
        ({"protect": "[{path: /x, access: public}]"}, "protect[0].access"),
        ({"protect": "[{path: /x, acess: fresh}]"}, "protect[0].acess"),
        ({"public": "[{path: /x, access: session}]"}, "public[0].access"),
        # sign-in that nobody reaches, or that leads away
        ({"protect": "[/]"}, "protect[0].path"),
        ({"protect": "[/sign-in]"}, "protect[0].path"),
        ({"protect": "['/*']"}, "protect[0].path"),
        ({"protect": "[/SIGN-IN.]"}, "protect[0].path"),
        ({"sign_in": "/dashboard/in"}, "protect[0].path"),
        ({"sign_in": "//evil.test/"}, "sign_in"),
        ({"sign_in": "https://evil.test/"}, "sign_in"),
        ({"sign_in": "'javascript:x'"}, "sign_in"),
        ({"sign_in": "'/\\\\evil.test'"}, "sign_in"),
        ({"default": "session", "public": "[/sign-in]"}, "default"),
        # loops, places and cookies
        ({"upstream": "http://127.0.0.1:8080"}, "upstream.url"),
        ({"upstream": "http://localhost:8080"}, "upstream.url"),
        ({"upstream": "http://u:p@127.0.0.1:3000"}, "upstream.url"),
        ({"upstream": "http://127.0.0.1:3000/base"}, "upstream.url"),
        ({"upstream": "file:///etc/passwd"}, "upstream.url"),
        ({"public_url": "https://app.example.test/x"}, "public_url"),
        ({"public_url": "app.example.test"}, "public_url"),
        ({"public_url": "https://a.test", "session": "{cookie: {secure: false}}"}, "session.cookie.secure"),
        ({"session": "{cookie: {same_site: none}}"}, "session.cookie.same_site"),
        ({"session": "{cookie: {prefix: 'a;b'}}"}, "session.cookie.prefix"),
        ({"session": "{cookie: {domain: 'a.test; Path=/x'}}"}, "session.cookie.domain"),
        # what is not known is not passed over
        ({"protected": "[/x]"}, "protected"),
        ({"limits": "{header_byte: 1}"}, "limits.header_byte"),
        ({"limits": "{header_bytes: 10}"}, "limits.header_bytes"),
    ],
)
def test_a_pitfall_is_refused_by_its_name(changes: dict[str, str | None], path: str) -> None:
    assert path in problems(**changes)


def test_no_message_holds_the_secret() -> None:
    for secret in ("short-but-mine", "canarycanarycanarycanarycanarycanary"):
        with pytest.raises(ConfigError) as caught:
            load_text(
                "".join(f"{n}: {v}\n" for n, v in (BASE | {"secret": secret}).items()),
                source="t",
                base_dir=Path(),
                environ={},
            )
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value.problems)


def test_weak_secrets_pass_on_loopback_alone() -> None:
    assert problems(secret="weak", listen="127.0.0.1:8080") == []
    for listen in ("0.0.0.0:8080", "'[::]:8080'", "192.0.2.1:8080"):
        assert problems(secret="weak", listen=listen) == ["secret"]
