"""Judgements for CI: files that CI servers read, annotations, and step summaries of GitHub Actions."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING

from pagedbench.runs.files import json_text
from pagedbench.runs.numbers import number
from pagedbench.show.judgement import Outcome
from pagedbench.show.junit import junit_xml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items

    from pagedbench.show.judgement import Judgement

BENCHMARKS = {"benchmark-smaller.json": "lower", "benchmark-bigger.json": "higher"}
"""Files for github-action-benchmark's tools customSmallerIsBetter and customBiggerIsBetter."""

CI_FILES = ("junit.xml", *BENCHMARKS)
"""All files that `ci_texts` may return."""

MAX_ANNOTATIONS = 10
"""Most annotations of one kind from one step; GitHub silently drops the rest."""

MAX_SUMMARY = 1024 * 1024
"""Most bytes of a step's summary; GitHub refuses longer ones."""


def ci_texts(judgements: Items[Judgement], title: str) -> dict[str, str]:
    """File name -> text, for `CI_FILES`. Empty files are left out, because their readers refuse them."""
    if not judgements:
        return {}
    texts = {"junit.xml": junit_xml(judgements, title)}
    for name, better in BENCHMARKS.items():
        entries = list(_benchmarks(judgements, better))
        if entries:
            texts[name] = json_text(entries)
    return texts


def _benchmarks(judgements: Iterable[Judgement], better: str) -> Iterable[dict[str, object]]:
    """Every judged new figure of this direction; CI plots them by name over commits."""
    for judgement in judgements:
        if judgement.outcome is Outcome.NOT_JUDGED:
            continue
        for figure in judgement.figures:
            if figure.better == better and figure.after is not None and math.isfinite(figure.after):
                names = dict.fromkeys((judgement.suite, judgement.name, figure.name))
                yield {
                    "name": " / ".join(names),
                    "unit": figure.unit,
                    "value": figure.after,
                    "extra": f"before: {number(figure.before)}\n{judgement.message}",
                }


def announce(judgements: Items[Judgement], title: str, markdown: str) -> None:
    """Under GitHub Actions: annotations, and `markdown` in the step's summary. Elsewhere nothing.

    Annotations go to stderr, which the runner also reads, so that stdout stays intact. A summary that
    cannot be written is a warning and changes no verdict.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    lines = list(_annotations(judgements, title))
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        try:
            _append(path, markdown)
        except OSError as error:
            reason = error.strerror or error
            lines.append(annotation("warning", title, f"the summary could not be written: {reason}"))
    print("\n".join(lines), end="\n" if lines else "", file=sys.stderr, flush=True)


def _annotations(judgements: Items[Judgement], title: str) -> Iterable[str]:
    """Failures are errors, things not judged are warnings; all the rest is one notice."""
    for outcome, level in ((Outcome.FAILED, "error"), (Outcome.NOT_JUDGED, "warning")):
        found = [item for item in judgements if item.outcome is outcome]
        fitting = found if len(found) <= MAX_ANNOTATIONS else found[: MAX_ANNOTATIONS - 1]
        for item in fitting:
            yield annotation(level, f"{title}: {item.suite}", item.message)
        if len(found) > len(fitting):
            others = ", ".join(item.name for item in found[len(fitting) :])
            yield annotation(level, title, f"{len(found) - len(fitting)} more {outcome.value}: {others}")
    passed = sum(item.outcome is Outcome.PASSED for item in judgements)
    if judgements:
        yield annotation("notice", title, f"{passed} of {len(judgements):,} passed")


def annotation(level: str, title: str, message: str) -> str:
    """A workflow command. `level`: error, warning or notice."""
    text = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    name = title.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level} title={name.replace(':', '%3A').replace(',', '%2C')}::{text}"


def _append(path: str, markdown: str) -> None:
    """Add to the summary; if the text is too long, only its first paragraphs."""
    content = markdown.encode(errors="replace")  # names of folders may not be Unicode
    space = MAX_SUMMARY - (os.path.getsize(path) if os.path.exists(path) else 0)
    if len(content) > space:
        head = "\n\n".join(markdown.split("\n\n")[:2])
        content = f"{head}\n\nThe rest is too long for a summary of GitHub Actions.\n".encode(
            errors="replace"
        )
    with open(path, "ab") as file:
        file.write(content)
