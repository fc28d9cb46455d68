"""How each proxy is started, with one core and with what its documentation says about throughput.

`measuring` asks for them by name. All keep connections to the model alive and write no access log. The sidecar is in
`sidecar`: it needs a ledger.
"""

import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.dataplane import cells
from bench.dataplane.processes import PROXY_CORE, Stage, tree
from bench.dataplane.programs import Programs

_PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that accepts connections. `scorer`: of the sidecar alone, its second process."""

    port: int
    pids: tuple[int, ...]
    scorer: int | None = None


@dataclass(frozen=True, slots=True)
class Mirror:
    port: int  # of the shadow
    percent: int


def free_port() -> int:
    """That nobody has now. These proxies cannot say which one they got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(name: str, programs: Programs, stage: Stage, folder: Path, model: int, mirror: Mirror | None) -> Running:
    port = free_port()
    place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))  # a port may come twice
    process = stage.start(PROXY_CORE, _command(name, programs, place, port, model, mirror))
    deadline = time.monotonic() + _PATIENCE
    while not accepts(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{name} did not start: {' '.join(process.args)}")  # type: ignore[arg-type]
        time.sleep(0.05)
    time.sleep(0.3)  # nginx's master accepts before its worker is there
    return Running(port, tuple(tree(process.pid)))


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _command(name: str, programs: Programs, place: Path, port: int, model: int, mirror: Mirror | None) -> list[str]:
    match name:
        case cells.NGINX:
            return [programs.nginx, "-p", str(place), "-c", _written(place, _nginx(port, model, mirror))]
        case cells.HAPROXY:
            return [programs.haproxy, "-f", _written(place, _haproxy(port, model))]
        case cells.ENVOY:
            options = ["--concurrency", "1", "-l", "off", "--disable-hot-restart"]
            return [programs.envoy, "-c", _written(place, _envoy(port, model, mirror), ".yaml"), *options]
        case cells.GO:
            command = [programs.go, f"127.0.0.1:{port}", f"http://127.0.0.1:{model}"]
            return command + ([f"http://127.0.0.1:{mirror.port}", str(mirror.percent)] if mirror else [])
    raise SystemExit(f"there is no proxy {name}")


def _written(place: Path, text: str, suffix: str = ".conf") -> str:
    path = place / f"settings{suffix}"
    path.write_text(text)
    return str(path)


def _nginx(port: int, model: int, mirror: Mirror | None) -> str:
    to = "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;"
    temporary = " ".join(
        f"{kind}_temp_path temporary;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    shadow = chosen = mirroring = ""
    if mirror:
        shadow = (
            f"upstream shadow {{ server 127.0.0.1:{mirror.port}; keepalive 64; keepalive_requests 10000000; }}"
            f"split_clients $request_id $chosen {{ {mirror.percent}% 1; * 0; }}"
        )
        skip = "if ($chosen = 0) { return 204; }" if mirror.percent < 100 else ""
        chosen = f"location = /shadow {{ internal; {skip} proxy_pass http://shadow$request_uri; {to} }}"
        mirroring = "mirror /shadow; mirror_request_body on;"
    return f"""
user root; daemon off; worker_processes 1; pid nginx.pid; error_log error.log crit; worker_rlimit_nofile 20000;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 10000000; tcp_nodelay on; {temporary}
  client_max_body_size 64m; client_body_buffer_size 2m; proxy_buffers 8 64k; proxy_buffer_size 64k;
  upstream live {{ server 127.0.0.1:{model}; keepalive 64; keepalive_requests 10000000; }}
  {shadow}
  server {{
    listen 127.0.0.1:{port};
    location / {{ {mirroring} proxy_pass http://live; {to} }}
    {chosen}
  }}
}}
"""


def _haproxy(port: int, model: int) -> str:
    return f"""
global
  maxconn 4096
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  option http-keep-alive
  http-reuse always
frontend users
  bind 127.0.0.1:{port}
  default_backend model
backend model
  server model 127.0.0.1:{model} pool-max-conn 64
"""


def _envoy(port: int, model: int, mirror: Mirror | None) -> str:
    policy = ""
    if mirror:
        fraction = f"{{default_value: {{numerator: {mirror.percent}, denominator: HUNDRED}}}}"
        policy = f"request_mirror_policies: [{{cluster: shadow, runtime_fraction: {fraction}}}]"

    def cluster(name: str, to: int, limits: str) -> str:
        address = f"{{address: {{socket_address: {{address: 127.0.0.1, port_value: {to}}}}}}}"
        return f"""
  - name: {name}
    type: STATIC
    connect_timeout: 1s
    {limits}
    load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {address}}}]}}]}}"""

    bounded = "circuit_breakers: {thresholds: [{max_connections: 64, max_pending_requests: 64, max_requests: 128}]}"
    shadow = cluster("shadow", mirror.port, bounded) if mirror else ""
    kinds = "type.googleapis.com/envoy.extensions.filters"
    return f"""
static_resources:
  listeners:
  - name: users
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {kinds}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: users
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route:
                  cluster: live
                  {policy}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": {kinds}.http.router.v3.Router}}
  clusters:{cluster("live", model, "")}{shadow}
"""
