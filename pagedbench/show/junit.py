"""Judgements as JUnit XML: what Jenkins, GitLab and most other CI servers show as test results."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pagedbench.runs.numbers import number
from pagedbench.show.judgement import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.show.judgement import Figure, Judgement

ELEMENTS = {Outcome.FAILED: "failure", Outcome.NOT_JUDGED: "skipped"}
"""The element of a test case by its outcome; a case that passed has its message as output."""

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped; names of folders may have them."""


def junit_xml(judgements: Items[Judgement], title: str) -> str:
    """One suite for each `Judgement.suite`, one test case for each judgement, and no times.

    The message is in the attribute, which Jenkins shows, and in the text, which GitLab shows.
    """
    root = ElementTree.Element("testsuites", {"name": _legal(title), **_counts(judgements)})
    suites: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        suites.setdefault(judgement.suite, []).append(judgement)
    for name, members in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", {"name": _legal(name), **_counts(members)})
        for judgement in members:
            _add_case(suite, judgement)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _counts(judgements: Items[Judgement]) -> dict[str, str]:
    outcomes = [judgement.outcome for judgement in judgements]
    return {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count(Outcome.FAILED)),
        "errors": "0",
        "skipped": str(outcomes.count(Outcome.NOT_JUDGED)),
    }


def _add_case(suite: ElementTree.Element, judgement: Judgement) -> None:
    names = {"classname": _legal(judgement.suite), "name": _legal(judgement.name)}
    case = ElementTree.SubElement(suite, "testcase", names)
    message = _legal(judgement.message)
    figures = [_line(item) for item in judgement.figures if item.name != judgement.name]
    kind = ELEMENTS.get(judgement.outcome)
    attributes = {} if kind is None else {"message": message}
    if judgement.outcome is Outcome.FAILED:
        attributes["type"] = "regression"
    element = ElementTree.SubElement(case, kind or "system-out", attributes)
    element.text = _legal("\n".join([message, *figures]))


def _line(figure: Figure) -> str:
    """The figures before and after; a figure with the judgement's own name is in its message already."""
    change = f"{figure.name}: {number(figure.before)} → {number(figure.after)}"
    return f"{change} {figure.unit}" if figure.unit else change


def _legal(text: str) -> str:
    return ILLEGAL.sub("?", text)
