"""The page of a run: whole without anything else, nothing in it that a name could bring in, every known value drawn."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import struct
import subprocess
import zlib
from collections import Counter
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcome import scale
from outcome.chart import time_chart
from outcome.files import files_of
from outcome.page import page
from outcome.plan import Plan
from outcome.run import Component, Endpoint, Generator, LostWorker, Point, Run
from outcome.series import Line, TimeChart, time_charts
from outcome.thresholds import Gate, Thresholds

VOID = {"meta"}
"""Of the tags used here, those without an end."""
HOSTILE = "<script>alert('1')</script>\"&"
AT_1_MS, AT_50_MS = 233, 431
"""Buckets of the histogram whose bounds are 1.01 and 50.9 ms."""


class Read(HTMLParser):
    """What a page consists of; a tag that is closed out of turn fails at once."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def run(**changes: Any) -> Run:
    """Ten seconds, two of them warm-up, of two endpoints."""
    given: dict[str, Any] = {
        "name": "evening",
        "plan": Plan(endpoint="validate", shape="ramp", rate=100, seconds=10, warm_up_seconds=2),
        "started": datetime(2026, 3, 1, 20, 30, tzinfo=UTC),
        "seconds": 8,
        "end": "complete",
        "environment": {"instances": 2, "place": "kind"},
        "endpoints": {
            "validate": Endpoint(requests=800, times={AT_1_MS: 792, AT_50_MS: 8}),
            "token": Endpoint(requests=80, wrong={"status 503": 4}, times={AT_50_MS: 76}),
        },
        "points": [
            Point(
                at_seconds=at, offered=10 * at, requests={"validate": 9 * at}, p50_ms=1.01, p99_ms=50.9, replicas=2, cpu_cores={"auth": 0.4}
            )
            for at in range(1, 11)
        ],
        "generator": Generator(cpu_shares={"alone": 0.4}),
        "components": {"auth": Component(cpu_cores=0.4, limit_cores=1)},
    }
    return Run(**given | changes)


def rows(html: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = html.split(f"<h2>{heading}</h2>")[1].split("</section>")[0]
    found = re.findall(r"<tr.*?</tr>", section.split("<tbody>")[1], re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in found]


def dots(svg: str) -> Counter[str]:
    """Points drawn, by the name in their tooltip."""
    return Counter(re.findall(r"<title>(.*?) at ", svg))


def test_the_page_needs_no_other_file_host_or_script() -> None:
    html = page(run(), Thresholds(), run(name="morning"), run(environment={"instances": 1}))
    tags = Read(html).tags
    assert [name for name, _ in tags if name in ("script", "link", "img", "iframe", "object", "base", "use", "image", "a")] == []
    assert [
        key for _, attributes in tags for key in attributes if key in ("src", "href", "xlink:href", "srcset", "action") or key[:2] == "on"
    ] == []
    assert re.findall(r"https?:|//|url\(|@import", html) == []


def test_its_sections_are_in_order() -> None:
    assert re.findall("<h2>(.*?)</h2>", page(run())) == [
        "Verdict",
        "Endpoints",
        "Over time",
        "Percentiles by endpoint",
        "Wrong answers",
        "Generators",
        "Environment",
    ]


def test_the_head_says_what_was_asked_when_and_how_it_ended() -> None:
    words = Read(page(run())).words
    assert "evening The endpoint validate on a ramp for 10 s, of which the first 2 s warm up and are not counted." in words
    assert "Started 2026-03-01, 20:30:00 UTC . It ended as planned. 8 s of it are counted." in words
    assert 'class="warning"' not in page(run())


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"end": "interrupted"}, "The run was interrupted"),
        ({"end": "running"}, "The run had not ended"),
        (
            {"generator": Generator(expected=2, most=2, lost=[LostWorker(name="two", at_seconds=6.5)])},
            "The generator two was lost at second 6.5",
        ),
        ({"generator": Generator(expected=3, most=2)}, "At most 2 of 3 generators took part."),
        ({"generator": Generator(cpu_shares={"one": 0.5, "two": 0.95})}, "The generator two used 95% of its core"),
        ({"endpoints": {}}, "No answer was counted."),
    ],
)
def test_what_makes_a_run_doubtful_is_said_in_a_box(changes: dict[str, Any], warning: str) -> None:
    box = page(run(**changes)).split('<div class="warning"')[1].split("</div>")[0]
    assert warning in box


def test_the_endpoints_are_listed_with_their_sum() -> None:
    assert rows(page(run()), "Endpoints") == [
        ["validate", "100", "800", "0", "1.01", "1.01", "1.01", "50.9"],
        ["token", "9.5", "80", "4", "50.9", "50.9", "50.9", "50.9"],
        ["all", "110", "880", "4", "1.01", "1.01", "50.9", "50.9"],
    ]


def test_each_percentile_is_in_its_column_and_in_the_chart() -> None:
    # Up to 1, 2, 5, 20 and 100 ms.
    times = {233: 8_000, 268: 1_500, 314: 450, 384: 45, 466: 5}
    html = page(run(endpoints={"validate": Endpoint(requests=10_000, times=times)}))
    assert rows(html, "Endpoints") == [["validate", "1,250", "10,000", "0", "1.01", "2.02", "5.02", "20.1"]]
    assert re.findall("<title>validate, (.*?)</title>", html) == [
        "longest: 102 ms",
        "p99.9: 20.1 ms",
        "p99: 5.02 ms",
        "p90: 2.02 ms",
        "p50: 1.01 ms",
    ]


def test_a_run_before_stands_beside_rate_and_p99() -> None:
    before = run(name="morning", endpoints={"validate": Endpoint(requests=1000, times={AT_50_MS: 1000})})
    html = page(run(), before=before)
    assert [(row[0], row[2], row[8]) for row in rows(html, "Endpoints")] == [
        ("validate", "\N{MINUS SIGN}20.0%", "\N{MINUS SIGN}98.0%"),
        ("token", "\N{EN DASH}", "\N{EN DASH}"),
        ("all", "\N{EN DASH}", "\N{EN DASH}"),
    ]
    assert "Changes are against the run morning of 2026-03-01 20:30" in html


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"environment": {"instances": 2, "place": "here"}}, "the environments differ in place (here and kind)"),
        ({"plan": Plan(endpoint="validate", shape="ramp", rate=50, seconds=10)}, "the plans differ in rate (50.0 and 100.0)"),
    ],
)
def test_a_run_of_another_place_or_plan_is_not_compared(changes: dict[str, Any], reason: str) -> None:
    html = page(run(), before=run(name="morning", **changes))
    assert f"Not compared with the run morning: {reason}." in html
    assert "Change</th>" not in html


def test_scaling_is_said_where_it_is_known() -> None:
    single = run(name="one", environment={"instances": 1}, endpoints={"validate": Endpoint(requests=500, times={AT_1_MS: 500})})
    # 876 right answers of two instances, 500 of one, in the same time.
    assert "each of the 2 instances gave 88% of what each gave in the run one, which had 1." in page(run(), single=single)
    assert "How the rate scales is not known" in page(run(), single=run(name="two"))


@pytest.mark.parametrize(("p99_ms", "word"), [(2, "held"), (0.5, "missed")])
def test_gates_are_held_or_missed_in_words(p99_ms: float, word: str) -> None:
    thresholds = Thresholds(wrong_share_at_most=0.01, endpoints={"validate": Gate(p99_ms_at_most=p99_ms)})
    found = rows(page(run(), thresholds), "Verdict")
    assert [(row[0], row[-1]) for row in found] == [
        ("complete run", "held"),
        ("answers", "held"),
        ("wrong answers", "held"),
        ("answered of offered", "held"),
        ("validate: p99", word),
    ]


def test_wrong_answers_are_listed_by_kind_the_most_frequent_first() -> None:
    endpoints = {
        "token": Endpoint(requests=1000, wrong={"late": 1, "status 503": 20}),
        "validate": Endpoint(requests=100, wrong={"late": 5}),
    }
    assert rows(page(run(endpoints=endpoints)), "Wrong answers") == [
        ["token", "status 503", "20", "2.000%"],
        ["validate", "late", "5", "5.000%"],
        ["token", "late", "1", "0.100%"],
    ]
    assert "There were none." in page(run(endpoints={"validate": Endpoint(requests=1, times={AT_1_MS: 1})}))


def test_names_from_elsewhere_bring_no_markup() -> None:
    lost = [LostWorker(name=HOSTILE, at_seconds=1)]
    html = page(
        run(
            name=HOSTILE,
            environment={HOSTILE: HOSTILE},
            endpoints={HOSTILE: Endpoint(requests=2, wrong={HOSTILE: 1}, times={AT_1_MS: 1})},
            points=[Point(at_seconds=1, requests={HOSTILE: 1}, cpu_cores={HOSTILE: 0.95})],
            generator=Generator(cpu_shares={HOSTILE: 0.95}, lost=lost),
            components={HOSTILE: Component(cpu_cores=1, limit_cores=1)},
        ),
        Thresholds(endpoints={HOSTILE: Gate(p99_ms_at_most=1)}),
        run(name=HOSTILE),
        run(name=HOSTILE),
    )
    read = Read(html)
    assert [name for name, _ in read.tags if name == "script"] == []
    assert "<script" not in html
    assert read.words.count(HOSTILE) >= 14
    assert [attributes["aria-label"] for name, attributes in read.tags if name == "svg" and HOSTILE in (attributes.get("aria-label") or "")]


def test_every_chart_has_a_name_and_a_point_for_each_known_value() -> None:
    read = Read(page(run()))
    labels = [attributes["aria-label"] for name, attributes in read.tags if name == "svg" and attributes.get("role") == "img"]
    assert labels == [
        "Rate over time in requests/s. offered: 10 to 100; answered: 9 to 90; wrong: 0 to 0.",
        "Latency over time in ms. p50: 1.01 to 1.01; p99: 50.9 to 50.9.",
        "Replicas over time in instances. replicas: 2 to 2.",
        "CPU in use over time in cores. auth: 0.4 to 0.4.",
        "Percentiles of the right answers by endpoint in ms. validate: p50 1.01, longest 50.9; token: p50 50.9, longest 50.9; "
        "all: p50 1.01, longest 50.9.",
    ]
    drawn = [dots(time_chart(chart)) for chart in time_charts(run())]
    assert drawn == [{"offered": 10, "answered": 10, "wrong": 10}, {"p50": 10, "p99": 10}, {"replicas": 10}, {"auth": 10}]


def test_what_nobody_saw_has_no_chart_and_no_line() -> None:
    blind = [Point(at_seconds=at, requests={"validate": 5}) for at in (1, 2, 3)]
    assert [(chart.title, [line.name for line in chart.lines]) for chart in time_charts(run(points=blind))] == [
        ("Rate", ["answered", "wrong"]),
        ("Latency", ["p50", "p99"]),
    ]


def test_an_unknown_value_is_a_gap_and_a_lone_one_is_seen() -> None:
    chart = TimeChart("Latency", "ms", [1, 2, 3, 4, 5, 6], [Line("p50", [10, 20, None, 5, None, 10])], until=10, shaded_until=0)
    svg = time_chart(chart)
    assert 'd="M100.0 500.0L200.0 0.0M400.0 750.0M600.0 500.0"' in svg
    assert dots(svg) == {"p50": 4}
    crowd = TimeChart("Latency", "ms", list(range(100)), [Line("p50", [1.0] * 97 + [None, 1.0, None])], until=100, shaded_until=0)
    assert time_chart(crowd).count('class="c1"') == 2, "the path and the lone point; the others are seen under the pointer"


def test_seconds_that_nobody_recorded_are_not_bridged() -> None:
    chart = TimeChart("Rate", "requests/s", [1, 2, 3, 4, 8], [Line("answered", [1, 1, 1, 1, 1])], until=10, shaded_until=0)
    assert 'd="M100.0 0.0L200.0 0.0L300.0 0.0L400.0 0.0M800.0 0.0"' in time_chart(chart)


def test_looks_at_every_fifth_second_make_one_line_and_replicas_step() -> None:
    looks = [Point(at_seconds=at, replicas=(1 if at < 10 else 2) if at % 5 == 0 else None) for at in range(1, 16)]
    chart = time_charts(run(points=looks, plan=Plan(seconds=20)))[2]
    assert (chart.at, chart.lines[0].values) == ([5, 10, 15], [1, 2, 2])
    assert 'd="M250.0 500.0H500.0V0.0H750.0V0.0"' in time_chart(chart)


def test_the_warm_up_is_shaded_and_said_not_to_count() -> None:
    for chart in time_charts(run()):
        assert '<rect class="area" width="20.00%" height="100%"/>' in time_chart(chart)
        assert "warm-up, not counted" in time_chart(chart)
    assert "warm-up" not in time_chart(time_charts(run(plan=Plan(seconds=10, warm_up_seconds=0)))[0])


def test_of_a_long_run_several_seconds_make_one_point() -> None:
    points = [Point(at_seconds=at, requests={"validate": at % 2}, p50_ms=1, p99_ms=90 if at == 100 else 9) for at in range(1, 86_401)]
    long = run(plan=Plan(seconds=86_400, rate=100), points=points)
    rate, latency = time_charts(long)
    assert len(rate.at) == 720
    assert set(rate.lines[0].values) == {0.5}
    assert (latency.lines[1].values[0], latency.lines[1].values[1]) == (90, 9)
    assert rate.note == "Each point stands for 120 s: the mean of its seconds."
    assert len(gzip.compress(page(long).encode())) < 150_000, "it is kept in a ConfigMap beside the other files"


@pytest.mark.parametrize("changes", [{"points": []}, {"endpoints": {}}, {"points": [], "endpoints": {}, "environment": {}, "seconds": 0}])
def test_a_run_without_points_or_endpoints_has_a_page(changes: dict[str, Any]) -> None:
    read = Read(page(run(**changes), Thresholds(), run()))
    assert ("No second of this run was recorded." in read.words) == ("points" in changes)
    assert ("No endpoint was asked." in read.words) == ("endpoints" in changes)
    assert Read(page(Run(name="new", plan=Plan(), started=datetime(2026, 3, 1, tzinfo=UTC)))).words


@pytest.mark.parametrize(
    ("most", "is_whole", "expected"),
    [
        (0, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.37, False, [0, 0.1, 0.2, 0.3, 0.4]),
        (10, False, [0, 2, 4, 6, 8, 10]),
        (4503, False, [0, 1000, 2000, 3000, 4000, 5000]),
        (2, True, [0, 1, 2]),
        (11, True, [0, 3, 6, 9, 12]),
    ],
)
def test_ticks_are_round_and_reach_the_highest_value(most: float, is_whole: bool, expected: list[float]) -> None:
    assert scale.ticks(most, is_whole) == expected


@settings(deadline=None)
@given(st.floats(1e-6, 1e9))
def test_no_value_is_above_its_axis_or_leaves_it_crowded(most: float) -> None:
    found = scale.ticks(most)
    assert found[-1] >= most * (1 - 1e-9)
    assert 3 <= len(found) <= 6


@pytest.mark.parametrize(
    ("until", "expected"), [(8, [0, 2, 4, 6, 8]), (600, [0, 120, 240, 360, 480, 600]), (86_400, [0, 21_600, 43_200, 64_800, 86_400])]
)
def test_time_is_counted_as_people_do(until: float, expected: list[float]) -> None:
    assert scale.clock_ticks(until) == expected


@pytest.mark.parametrize(
    ("least", "most", "expected"), [(0.8, 140, [1, 10, 100]), (3, 30, [2, 5, 10, 20, 50]), (5, 5, [5, 10]), (1, 50, [1, 2, 5, 10, 20, 50])]
)
def test_a_logarithmic_axis_encloses_its_values(least: float, most: float, expected: list[float]) -> None:
    axis = scale.decades(least, most)
    assert axis[0] <= least <= most <= axis[-1]
    assert scale.marked(axis) == expected


def test_the_page_and_the_summary_are_among_the_files_of_a_run() -> None:
    files = files_of(run(), Thresholds())
    assert sorted(files) == ["points.csv", "report.html", "run.json", "summary.md"]
    assert files["report.html"] == page(run(), Thresholds())


# The page is looked at in a frame, for a window of this browser is never narrower than 500.
FRAME = """<!doctype html><body style="margin:0"><iframe src="report.html" style="border:0;width:WIDTHpx;height:2900px"></iframe>
<script>addEventListener("message", event => { document.title = event.data; });</script>"""
PROBE = """<script>addEventListener("load", () => {
  const least = (tag, size) => Math.min(...[...document.querySelectorAll(tag)].map(each => size(each.getBoundingClientRect())));
  parent.postMessage(JSON.stringify({
    window: innerWidth,
    page: document.documentElement.scrollWidth,
    charts: document.querySelectorAll("svg[role=img]").length,
    chart_width: least("svg[role=img]", box => box.width),
    chart_height: least("svg[role=img]", box => box.height),
    line_width: least("path", box => box.width),
  }), "*");
});</script>"""


def chromium(profile: Path, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What the browser prints, and what it logs."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium on PATH")
    fixed = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    command = [program, *fixed, f"--user-data-dir={profile}", "--virtual-time-budget=5000", *options, file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def scanlines(png: bytes) -> set[bytes]:
    """The different lines of a picture, as they are stored: one of a single colour has no more than two."""
    width, height, depth, colours = struct.unpack(">IIBB", png[16:26])
    at, packed = 8, b""
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        packed += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    raw, line = zlib.decompress(packed), 1 + width * depth // 8 * {2: 3, 6: 4}[colours]
    return {raw[number * line : (number + 1) * line] for number in range(height)}


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_a_browser_shows_it_without_errors_and_nothing_runs_over_the_side(tmp_path: Path, width: int) -> None:
    parts = {f"component number {number} with a long name": 0.2 for number in range(8)}
    points = [each.model_copy(update={"cpu_cores": parts}) for each in run().points]
    endpoints = run().endpoints | {"w" * 60: Endpoint(requests=1, times={AT_1_MS: 1})}
    html = page(
        run(name="x" * 200, points=points, endpoints=endpoints, environment={"place": "y" * 300}),
        Thresholds(),
        run(name="morning", environment={"place": "y" * 300}),
    )
    (tmp_path / "report.html").write_text(html.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    seen = chromium(tmp_path / "profile", tmp_path / "frame.html", "--window-size=1400,3000", "--dump-dom")
    found = json.loads(re.findall("<title>(.*?)</title>", seen.stdout)[0])
    assert (found["window"], found["page"], found["charts"]) == (width, width, 5)
    assert found["chart_width"] > width / 2
    assert found["chart_height"] > 100
    assert found["line_width"] > width / 3
    assert "CONSOLE" not in seen.stderr

    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    picture = tmp_path / "report.png"
    shot = chromium(tmp_path / "profile", tmp_path / "report.html", f"--window-size={width},3000", f"--screenshot={picture}")
    assert "CONSOLE" not in shot.stderr
    assert len(scanlines(picture.read_bytes())) > 500
