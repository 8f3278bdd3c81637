"""Configurations of the gate and its peers (nginx: `nginx_configs`).  Each function gives a text; nothing is started.

The peers are plain proxies with long-lived connections on both sides and no access log, on one thread.  nginx and
HAProxy have one rule of their own for requests without a cookie, under /settings: they look whether it is there.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from bench.places import Places
from bench.session import COOKIE, SECRET
from bench.workloads import WEBSOCKET
from gatekeeper.config.load import ConfigError, load_text


def haproxy(places: Places) -> str:
    """HAProxy on one thread."""
    return f"""\
global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout client 75s
  timeout server 60s
  timeout connect 5s
  timeout tunnel 1h
  timeout http-keep-alive 75s
  option http-keep-alive
  option forwardfor
  http-reuse always
frontend public
  bind 127.0.0.1:{places.port} backlog 1024
  acl guarded path_beg /settings/
  acl signed_in req.cook({COOKIE}) -m found
  acl page req.hdr(accept) -m sub text/html
  http-request redirect code 307 location /sign-in?callbackUrl=%[pathq,url_enc] if guarded !signed_in page
  http-request deny deny_status 401 if guarded !signed_in
  use_backend echo if {{ path {WEBSOCKET} }}
  default_backend app
backend app
  server app 127.0.0.1:{places.app}
backend echo
  server echo 127.0.0.1:{places.echo}
"""


def envoy(places: Places) -> str:
    """Envoy with one listener, one router, two clusters."""
    routes = [
        {
            "match": {"path": WEBSOCKET},
            "route": {"cluster": "echo", "timeout": "0s", "upgrade_configs": [{"upgrade_type": "websocket"}]},
        },
        {"match": {"prefix": "/"}, "route": {"cluster": "app"}},
    ]
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }
    manager = {
        "@type": f"type.googleapis.com/{_ENVOY_MANAGER}",
        "stat_prefix": "public",
        "generate_request_id": False,
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }
    listener = {
        "address": _envoy_address(places.port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    clusters = [_envoy_cluster("app", places.app), _envoy_cluster("echo", places.echo)]
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}}, indent=2)


def caddy(places: Places) -> str:
    """A Caddyfile with 256 idle connections to the app."""
    return f"""\
{{
  admin off
  auto_https off
  persist_config off
}}
http://127.0.0.1:{places.port} {{
  bind 127.0.0.1
  handle {WEBSOCKET} {{
    reverse_proxy 127.0.0.1:{places.echo}
  }}
  handle {{
    reverse_proxy 127.0.0.1:{places.app} {{
      transport http {{
        keepalive 5m
        keepalive_idle_conns 256
        keepalive_idle_conns_per_host 256
        compression off
      }}
    }}
  }}
}}
"""


def traefik_static(places: Places) -> str:
    """Traefik's static configuration: one entry point, and the file of its routes."""
    return yaml.safe_dump(
        {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "log": {"level": "ERROR"},
            "entryPoints": {"public": {"address": f"127.0.0.1:{places.port}"}},
            "serversTransport": {"maxIdleConnsPerHost": 256},
            "providers": {"file": {"filename": str(places.folder / "routes.yaml"), "watch": False}},
        }
    )


def traefik_routes(places: Places) -> str:
    """Traefik's routes: the echo server, and all else to the app."""
    routers = {
        "app": {"rule": "PathPrefix(`/`)", "service": "app", "entryPoints": ["public"]},
        "echo": {"rule": f"Path(`{WEBSOCKET}`)", "service": "echo", "entryPoints": ["public"]},
    }
    ports = {"app": places.app, "echo": places.echo}
    services = {
        name: {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{port}"}]}} for name, port in ports.items()
    }
    return yaml.safe_dump({"http": {"routers": routers, "services": services}})


def gate(places: Places, workers: int = 1, *, signs: bool = True) -> tuple[str, list[str]]:
    """The gate's configuration, and the settings that this version does not take.

    Shipped defaults, with what the machine decides: addresses, and the file of the access log.  All load comes from
    one address, so the limit for one address is off.  Without `signs` the app gets no assertion.
    """
    required: dict[str, Any] = {
        "listen": f"127.0.0.1:{places.port}",
        "upstream": f"http://127.0.0.1:{places.app}",
        "upstreams": {"echo": f"http://127.0.0.1:{places.echo}"},
        "secret": SECRET,
        "store": f"sqlite:///{places.database}",
        "protect": ["/dashboard", "/settings", {"path": WEBSOCKET, "upstream": "echo"}],
    }
    wanted: dict[str, Any] = {
        "public_url": f"http://127.0.0.1:{places.port}",
        "admin": {"listen": f"127.0.0.1:{places.admin}"},
        "log": {"file": str(places.folder / "access.log")},
        "limits": {"per_address": None},
    } | ({"workers": workers} if workers > 1 else {})
    wanted |= {} if signs else {"identity": {"assertion": {"enabled": False}}}
    refused = [name for name in wanted if not _loads(required | {name: wanted[name]}, places.folder)]
    taken = {name: value for name, value in wanted.items() if name not in refused}
    return yaml.safe_dump(required | taken, sort_keys=False), refused


def _loads(config: dict[str, Any], folder: Path) -> bool:
    try:
        load_text(yaml.safe_dump(config), source="bench", base_dir=folder, environ={})
    except ConfigError:
        return False
    return True


_ENVOY_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def _envoy_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_cluster(name: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _envoy_address(port)}}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": assignment}
