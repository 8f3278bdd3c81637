"""The proxies that are measured, and how each is started."""

import base64
import hashlib
import http.client
import sys
from collections.abc import Callable
from http.cookies import SimpleCookie
from urllib.parse import urlencode

import msgspec

from bench import configs, nginx_configs
from bench.install import OAUTH2_PROXY, Tools, go_version
from bench.places import Places
from bench.processes import StartError
from bench.session import SECRET, USER_ID, cookie_of
from bench.workloads import WEBSOCKET, WORKLOADS
from gatekeeper import __version__

NO_SESSIONS = "a plain proxy: it knows no sessions"
PASSWORD = "bench"  # noqa: S105 - loopback only, made for the benchmark


class Launch(msgspec.Struct):
    """How to start a proxy: files to write, the command, its environment, remarks for the reader."""

    command: list[str]
    files: dict[str, str] = {}
    environ: dict[str, str] = {}
    remarks: list[str] = []


class Peer(msgspec.Struct, frozen=True):
    """One proxy.  `needs` is its program in `Tools`; `skips` says why a workload is not asked of it.

    `sign_in` gives the Cookie header that this proxy takes, from the port where it runs; `version` are the arguments
    with which the program prints its version, or the version itself.  `only` is all that is measured of it, None for
    everything; see `is_asked`.
    """

    name: str
    title: str
    what: str
    needs: str | None
    launch: Callable[[Tools, Places], Launch]
    version: tuple[str, ...] | str = ""
    skips: dict[str, str] = {}
    sign_in: Callable[[int], str] | None = None
    json_denials: bool = False
    """Whether only requests that accept JSON get a 401 from it."""

    workers: int = 1
    only: tuple[str, ...] | None = None

    def is_asked(self, what: str) -> bool:
        """Whether this workload, `memory` or `latency` is measured of it."""
        asked_of = WORKLOADS[what].asked_of if what in WORKLOADS else None
        return (self.only is None or what in self.only) and (asked_of is None or self.name in asked_of)

    def cookie(self, port: int, number: int = 0) -> str:
        """The Cookie header for session `number`; a proxy with sessions of its own has only one."""
        return cookie_of(number) if self.sign_in is None else self.sign_in(port)


def _gate(tools: Tools, places: Places, workers: int = 1, *, signs: bool = True) -> Launch:
    text, refused = configs.gate(places, workers, signs=signs)
    if "workers" in refused:
        raise StartError(f"this version of the gate does not take `workers: {workers}`")
    if "identity" in refused:
        raise StartError("this version of the gate has no assertion that could be off")
    remarks = [f"this version of the gate does not take `{name}`" for name in refused]
    config = str(places.folder / "gatekeeper.yaml")
    command = [sys.executable, "-m", "gatekeeper", "run", "-c", config]
    return Launch(command, {"gatekeeper.yaml": text}, remarks=remarks)


def _gate_of_two(tools: Tools, places: Places) -> Launch:
    return _gate(tools, places, workers=2)


def _gate_that_signs_nothing(tools: Tools, places: Places) -> Launch:
    return _gate(tools, places, signs=False)


def _nginx(tools: Tools, places: Places) -> Launch:
    config = places.folder / "nginx.conf"
    command = [tools.paths["nginx"], "-p", str(places.folder), "-c", str(config), "-e", "stderr"]
    return Launch(command, {"nginx.conf": nginx_configs.proxy(places)})


def _haproxy(tools: Tools, places: Places) -> Launch:
    command = [tools.paths["haproxy"], "-db", "-f", str(places.folder / "haproxy.cfg")]
    return Launch(command, {"haproxy.cfg": configs.haproxy(places)})


def _envoy(tools: Tools, places: Places) -> Launch:
    config = str(places.folder / "envoy.json")
    command = [tools.paths["envoy"], "-c", config, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]
    return Launch(command, {"envoy.json": configs.envoy(places)})


def _traefik(tools: Tools, places: Places) -> Launch:
    command = [tools.paths["traefik"], f"--configFile={places.folder / 'traefik.yaml'}"]
    files = {"traefik.yaml": configs.traefik_static(places), "routes.yaml": configs.traefik_routes(places)}
    return Launch(command, files, {"GOMAXPROCS": "1"})


def _caddy(tools: Tools, places: Places) -> Launch:
    command = [tools.paths["caddy"], "run", "--config", str(places.folder / "Caddyfile"), "--adapter", "caddyfile"]
    environ = {"GOMAXPROCS": "1", "XDG_DATA_HOME": str(places.folder), "XDG_CONFIG_HOME": str(places.folder)}
    return Launch(command, {"Caddyfile": configs.caddy(places)}, environ)


def _go(tools: Tools, places: Places) -> Launch:
    addresses = {"listen": places.port, "upstream": places.app, "echo": places.echo}
    options = [f"-{name}=127.0.0.1:{port}" for name, port in addresses.items()]
    command = [tools.paths["goproxy"], *options, f"-secret={SECRET}", f"-user={USER_ID}"]
    return Launch(command, environ={"GOMAXPROCS": "1"})


def _oauth2_proxy(tools: Tools, places: Places) -> Launch:
    options = {
        "http-address": f"127.0.0.1:{places.port}",
        "provider": "github",
        "client-id": "bench",
        "client-secret": "bench",
        "cookie-secret": "0123456789abcdef0123456789abcdef",
        "cookie-secure": "false",
        "email-domain": "*",
        "redirect-url": f"http://127.0.0.1:{places.port}/oauth2/callback",
        "htpasswd-file": str(places.folder / "htpasswd"),
        "skip-provider-button": "true",
        "request-logging": "false",
        "auth-logging": "false",
        "standard-logging": "false",
        "insecure-oidc-skip-issuer-verification": "true",
        "upstream": f"http://127.0.0.1:{places.app}/",
    }
    command = [tools.paths["oauth2-proxy"], *(f"--{name}={value}" for name, value in options.items())]
    command.append(f"--upstream=http://127.0.0.1:{places.echo}{WEBSOCKET}")
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).digest()).decode()
    return Launch(command, {"htpasswd": f"ada:{{SHA}}{digest}\n"}, {"GOMAXPROCS": "1"})


def sign_in_to_oauth2_proxy(port: int) -> str:
    """Sign in with the password; the Cookie header of the session.  Raises ValueError when there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = urlencode({"username": "ada", "password": PASSWORD, "rd": "/"})
    connection.request("POST", "/oauth2/sign_in", body, {"Content-Type": "application/x-www-form-urlencoded"})
    response = connection.getresponse()
    response.read()
    jar: SimpleCookie = SimpleCookie()
    for value in response.headers.get_all("Set-Cookie", []):
        jar.load(value)
    connection.close()
    found = {name: morsel.value for name, morsel in jar.items() if morsel.value}
    if "_oauth2_proxy" not in found:
        raise ValueError(f"signing in gave no session cookie, but status {response.status}")
    return "; ".join(f"{name}={value}" for name, value in found.items() if name.startswith("_oauth2_proxy"))


_NO_SESSIONS = {"redirect": NO_SESSIONS, "denied": NO_SESSIONS}

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "gate",
            "gatekeeper",
            "verifies the session in the store, sets identity headers and the signed assertion",
            None,
            _gate,
            __version__,
        ),
        Peer(
            "unsigned",
            "gatekeeper, assertion off",
            "the same without the assertion",
            None,
            _gate_that_signs_nothing,
            __version__,
            only=("verified", "paired"),
        ),
        Peer(
            "gate2",
            "gatekeeper, 2 workers",
            "the same with `workers: 2`, both on the proxies' core",
            None,
            _gate_of_two,
            __version__,
            workers=2,
            only=("memory", "verified", "crowded", "paired"),
        ),
        Peer("nginx", "nginx", "plain proxy; without a cookie a static rule", "nginx", _nginx, ("-v",)),
        Peer("haproxy", "HAProxy", "plain proxy; without a cookie a static rule", "haproxy", _haproxy, ("-v",)),
        Peer("envoy", "Envoy", "plain proxy", "envoy", _envoy, ("--version",), _NO_SESSIONS),
        Peer("go", "Go net/http", "verifies the cookie's signature, no store", "goproxy", _go, go_version()),
        Peer("traefik", "Traefik", "plain proxy", "traefik", _traefik, ("version",), _NO_SESSIONS),
        Peer("caddy", "Caddy", "plain proxy", "caddy", _caddy, ("version",), _NO_SESSIONS),
        Peer(
            "oauth2-proxy",
            "oauth2-proxy",
            "decrypts its own session cookie, no store",
            "oauth2-proxy",
            _oauth2_proxy,
            OAUTH2_PROXY.rpartition("@v")[2],
            dict.fromkeys(
                ("varied", "mixed"), "it has one session only: signing in again would be a different request"
            ),
            sign_in_to_oauth2_proxy,
            json_denials=True,
        ),
    )
}
QUICK = ("gate", "unsigned", "nginx", "go")
