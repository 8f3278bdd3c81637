"""A run for tests, with figures that are easy to calculate with."""

from bench.results import Latency, Memory, PeerResult, Run, Sample


def samples(*cpu_us: float, busy: float = 0.99, foreign: float = 0.01) -> list[Sample]:
    return [Sample(value, 1e6 / value, busy, foreign) for value in cpu_us]


def latency(p99: float, *, rate: float = 1000, achieved: float = 999) -> Latency:
    return Latency(rate, achieved, p99 / 4, p99 / 2, p99, p99 * 2, 0.2, 0.05)


def a_run() -> Run:
    gate = PeerResult(
        "gatekeeper",
        "verifies",
        samples={"verified": samples(30, 20, 90), "redirect": samples(10)},
        latency=[latency(2.0), latency(1.0), latency(3.0)],
        memory=[Memory(64 * 2**20, 10_240, 1000)],
        reasons={"websocket": "answered 502 to the handshake"},
    )
    unsigned = PeerResult("gatekeeper, assertion off", "no assertion", samples={"verified": samples(28, 31, 20)})
    nginx = PeerResult(
        "nginx",
        "plain",
        "nginx/1",
        samples={"verified": samples(10, 10, 10, busy=0.5)},
        latency=[latency(0.5)],
    )
    go = PeerResult("Go net/http", "verifies", samples={"verified": samples(50)}, latency=[latency(9, achieved=700)])
    peers = {"gate": gate, "unsigned": unsigned, "nginx": nginx, "go": go}
    return Run({"cores": "2"}, "2030-01-02T03:04:05+00:00", 3, 2, peers, {"Caddy": "its wheel is missing"})
