"""Configurations of nginx: as the app behind all proxies, and as a proxy itself."""

import os
from pathlib import Path

from bench.places import Places
from bench.session import COOKIE
from bench.workloads import LARGE_BYTES, PAGE_BYTES, WEBSOCKET

MANY = 1_000_000
"""Requests per connection, where nginx would close it after 1,000 by default."""


def upstream(port: int, folder: Path) -> str:
    """The app: a page of 1 KB, a file of 1 MB, and uploads that are read to their end before the answer.

    `return` would answer an upload before it has arrived; passing the request on inside waits for it.
    """
    (folder / "large").write_bytes(os.urandom(LARGE_BYTES))
    page = "x" * PAGE_BYTES
    inner = f"unix:{folder}/inner.sock"
    return f"""\
{_main(folder)}
http {{
  {_common(folder)}
  upstream inner {{ server {inner}; keepalive 64; }}
  server {{
    listen {inner};
    location / {{ return 200 "{page}"; }}
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    client_max_body_size 4m;
    location / {{ return 200 "{page}"; }}
    location = /dashboard/large {{ alias {folder}/large; }}
    location = /dashboard/upload {{
      client_body_buffer_size 2m;
      proxy_pass http://inner;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Content-Length "";
      proxy_pass_request_body off;
      proxy_method GET;
    }}
  }}
}}
"""


def proxy(places: Places) -> str:
    """A plain proxy, streaming both ways through memory."""
    return f"""\
{_main(places.folder)}
http {{
  {_common(places.folder)}
  upstream app {{ server 127.0.0.1:{places.app}; keepalive 256; keepalive_requests {MANY}; }}
  upstream echo {{ server 127.0.0.1:{places.echo}; }}
  map "$http_cookie|$http_accept" $verdict {{
    default deny;
    "~{COOKIE.replace(".", "[.]")}=" pass;
    "~[|].*text/html" redirect;
  }}
  server {{
    listen 127.0.0.1:{places.port} backlog=1024;
    client_max_body_size 4m;
    client_body_buffer_size 64k;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_request_buffering off;
    proxy_buffers 16 32k;
    proxy_buffer_size 32k;
    proxy_busy_buffers_size 256k;
    proxy_max_temp_file_size 0;
    location / {{ proxy_pass http://app; }}
    location /settings/ {{
      if ($verdict = redirect) {{ return 307 /sign-in?callbackUrl=$request_uri; }}
      if ($verdict = deny) {{ return 401; }}
      proxy_pass http://app;
    }}
    location = {WEBSOCKET} {{
      proxy_pass http://echo;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header Host $http_host;
    }}
  }}
}}
"""


def _main(folder: Path) -> str:
    user = "user root;" if os.geteuid() == 0 else ""  # the folder is the user's own
    return f"""{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}"""


def _common(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return f"""access_log off;
  {" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)}
  sendfile on;
  tcp_nodelay on;
  keepalive_timeout 75s;
  keepalive_requests {MANY};
  server_tokens off;"""
