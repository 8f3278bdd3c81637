"""Tables and remarks of a run whose figures are known."""

from bench import tables
from bench.results import Midway, PeerResult, Sample
from tests.bench.records import a_run, samples


def cells(table: list[tables.Row], title: str) -> list[str]:
    return next(row for row in table if row[0] == title)


def test_cpu_table_has_medians_and_ratios() -> None:
    table = tables.cpu_table(a_run())
    assert table[0] == ["CPU per request, µs", "verified GET", "redirect", "× nginx", "× Go"]
    assert cells(table, "gatekeeper") == ["gatekeeper", "30.0", "10.0", "3.00", "0.60"]
    assert cells(table, "nginx") == ["nginx", "10.0", "–", "1.00", "0.20"]


def test_the_gate_without_assertions_has_a_row_below_the_gate_and_no_other() -> None:
    run = a_run()
    table = tables.cpu_table(run)
    assert [row[0] for row in table[1:3]] == ["gatekeeper", "gatekeeper, assertion off"]
    assert table[2][1:] == ["28.0", "–", "2.80", "0.56"]
    others = [
        tables.ratio_table(run, "go"),
        tables.rate_table(run),
        tables.latency_table(run),
        tables.memory_table(run),
    ]
    assert not [row for table in others for row in table if row[0] == "gatekeeper, assertion off"]


def test_ratio_table_leaves_out_what_it_compares_with() -> None:
    table = tables.ratio_table(a_run(), "go")
    assert [row[0] for row in table] == ["× Go net/http", "gatekeeper", "nginx"]
    assert cells(table, "gatekeeper") == ["gatekeeper", "0.60", "–"]


def test_rates_say_where_the_load_was_the_limit() -> None:
    table = tables.rate_table(a_run())
    assert cells(table, "gatekeeper")[1] == "33,333"
    assert cells(table, "nginx")[1] == "≥ 100,000"


def test_latencies_of_a_proxy_that_cannot_keep_the_rate_are_not_shown() -> None:
    table = tables.latency_table(a_run())
    assert cells(table, "gatekeeper")[1:6] == ["1,000", "999", "0.50", "1.00", "2.00"]
    assert cells(table, "Go net/http")[1:] == ["1,000", "700", *["–"] * 5]
    assert "Go net/http, latency: it could not keep the rate" in tables.remarks(a_run())


def test_memory_table() -> None:
    assert tables.memory_table(a_run())[1:] == [["gatekeeper", "64.0", "10.0"]]


def test_many_connections_have_a_table_of_their_own() -> None:
    run = a_run()
    assert len(tables.connections_table(run)) == 1
    seen = [Sample(45, 1, 1, 0, Midway(96 * 2**20, 0.44)), Sample(48, 1, 1, 0, Midway(98 * 2**20, 0.48))]
    run.peers["gate2"] = PeerResult("two", "", samples={"verified": samples(31), "crowded": seen})
    run.peers["nginx"].samples["crowded"] = samples(12)
    assert tables.connections_table(run)[1:] == [
        ["nginx", "10.0", "12.0", "1.20", "–", "–"],
        ["two", "31.0", "46.5", "1.50", "97.0", "44%"],
    ]
    assert "1,024 connections" not in tables.cpu_table(run)[0]
    assert "two" not in [row[0] for row in tables.cpu_table(run)]


def test_remarks_name_what_is_missing_and_why() -> None:
    lines = tables.remarks(a_run())
    assert "Caddy: not measured, its wheel is missing" in lines
    assert "gatekeeper, WebSocket: answered 502 to the handshake" in lines
    assert lines[-1] == "others used 1.0% of the proxies' core (median of all windows)"


def test_remarks_tell_of_a_machine_that_was_not_quiet() -> None:
    run = a_run()
    run.peers["gate"].samples["verified"] = samples(*[30] * 20, foreign=0.3)
    assert tables.remarks(run)[-1].endswith("the machine was not quiet")


def test_text_is_aligned() -> None:
    lines = tables.as_text([["a", "bb"], ["ccc", "d"], ["e", "ffff"]]).splitlines()
    assert lines == ["a      bb", "─────────", "ccc     d", "e    ffff"]


def test_markdown_has_one_line_for_each_row() -> None:
    text = tables.as_markdown([["µs", "x"], ["gatekeeper", "1.0"], ["nginx", "2.0"]])
    assert text == "| µs | x |\n| --- | ---: |\n| **gatekeeper** | **1.0** |\n| nginx | 2.0 |\n"


def test_a_run_without_anything_has_no_tables() -> None:
    run = a_run()
    run.peers = {}
    assert tables.all_tables(run) == []
