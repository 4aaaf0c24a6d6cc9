"""JUnit XML, read as Jenkins and GitLab read it."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from pagedbench.show.junit import junit_xml
from show.judgements import ALL, FAILED

COUNTS = ("tests", "failures", "errors", "skipped")


def test_suites_cases_and_counts() -> None:
    text = junit_xml(ALL, "a title")
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="a title"')
    root = ElementTree.fromstring(text.encode())
    assert [root.get(name) for name in COUNTS] == ["3", "1", "0", "1"]
    suites = root.findall("testsuite")
    assert [suite.get("name") for suite in suites] == ["new: rate 2", "new: rate 4"]
    assert [[suite.get(name) for name in COUNTS] for suite in suites] == [
        ["2", "1", "0", "0"],
        ["1", "0", "0", "1"],
    ]
    cases = root.findall("testsuite/testcase")
    assert [(case.get("classname"), case.get("name")) for case in cases] == [
        ("new: rate 2", "tpot_p50_ms"),
        ("new: rate 2", "throughput"),
        ("new: rate 4", "ttft_p99_ms"),
    ]
    assert [[child.tag for child in case] for case in cases] == [["failure"], ["system-out"], ["skipped"]]


def test_the_message_is_in_the_attribute_and_in_the_text() -> None:
    failure = ElementTree.fromstring(junit_xml(ALL, "t").encode()).find(".//failure")
    assert failure is not None
    assert (failure.get("message"), failure.get("type"), failure.text) == (
        "tpot_p50_ms is 12 % worse.",
        "regression",
        "tpot_p50_ms is 12 % worse.",
    )


def test_figures_of_other_names_follow_the_message() -> None:
    output = ElementTree.fromstring(junit_xml(ALL, "t").encode()).find(".//system-out")
    assert output is not None
    assert output.text == "Both are equal.\nrequest_throughput: 2.00 → 2.00 req/s\nrunning: 3.00 → 3.00"


@pytest.mark.parametrize("name", ['<a> & "b"', "tab\tnew\nline", "bell\x07 and \ud800", "]]>"])
def test_any_name_gives_valid_xml(name: str) -> None:
    judgement = replace(FAILED, suite=name, name=name, message=name, figures=())
    root = ElementTree.fromstring(junit_xml([judgement], name).encode())
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.text == name.replace("\x07", "?").replace("\ud800", "?")
