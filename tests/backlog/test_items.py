"""Research items, good and bad."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backlog.items import SECTIONS, ItemError, read_item, read_items
from tests.conftest import ROOT

HEAD = "---\ntitle: A title\narea: complexity\nstatus: open\n---\n"
BODY = "# A title\n\n" + "".join(f"## {name}\nText of {name}.\n\n" for name in SECTIONS)


def write(tmp_path: Path, text: str, name: str = "item.md") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "backlog", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_backlog_has_five_complete_items() -> None:
    items = read_items()
    assert len(items) == 5
    assert {item.area for item in items} == {"complexity", "fsrs-optimization"}


@pytest.mark.parametrize("item", read_items(), ids=lambda item: item.identifier)
def test_an_item_can_be_decided(item) -> None:
    # A measure without a number leaves the decision to taste.
    assert any(character.isdigit() for character in item.hypothesis)
    assert any(character.isdigit() for character in item.measure_of_success)
    assert item.method.startswith("1. ")
    texts = (item.problem, item.hypothesis, item.data_needed, item.method, item.measure_of_success)
    assert all(len(text.split()) >= 40 for text in texts)


def test_an_item_is_read_as_it_stands(tmp_path: Path) -> None:
    item = read_item(write(tmp_path, HEAD + BODY))
    assert (item.identifier, item.title, item.area, item.status) == (
        "item",
        "A title",
        "complexity",
        "open",
    )
    assert item.problem == "Text of Problem."
    assert item.measure_of_success == "Text of Measure of success."


def test_headings_within_code_and_of_lower_levels_belong_to_their_section(tmp_path: Path) -> None:
    text = "Text.\n### Detail\n```\n## no heading\n```\nMore."
    item = read_item(write(tmp_path, HEAD + BODY.replace("Text of Method.", text)))
    assert item.method == text


@pytest.mark.parametrize("section", SECTIONS)
def test_a_missing_section_is_named_with_its_file(section: str, tmp_path: Path) -> None:
    body = BODY.replace(f"## {section}\nText of {section}.\n\n", "")
    path = write(tmp_path, HEAD + body)
    with pytest.raises(ItemError) as caught:
        read_item(path)
    assert str(caught.value) == f"{path}: section '## {section}' is missing"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no head"),
        (BODY, "has no head"),
        (HEAD.replace("status: open\n", "") + BODY, "status: Field required"),
        (HEAD.replace("open", "maybe") + BODY, "status: Input should be 'open'"),
        (HEAD.replace("complexity", "cooking") + BODY, "area: Input should be"),
        (HEAD.replace("status", "stauts") + BODY, "stauts: Extra inputs are not permitted"),
        ("---\ntitle: [\n---\n" + BODY, "the head is no YAML"),
        ("---\n- a\n---\n" + BODY, "the head: Input should be"),
        (HEAD + BODY.replace("# A title", "# Another"), "the heading must be '# A title'"),
        (HEAD + BODY.replace("# A title", ""), "the heading must be '# A title'"),
        (HEAD + BODY.replace("Text of Method.", " "), "section '## Method' is empty"),
        (HEAD + BODY + "## Method\nAgain.\n", "section '## Method' is there 2 times"),
        (HEAD + BODY + "## Costs\nMuch.\n", "section '## Costs' is not one of"),
        (HEAD + BODY.replace("## Method", "## method"), "section '## Method' is missing"),
        (
            HEAD + "# A title\n" + "".join(f"## {name}\nText.\n" for name in reversed(SECTIONS)),
            "the sections must come in this order",
        ),
    ],
)
def test_what_is_wrong_is_named_with_the_file(text: str, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ItemError) as caught:
        read_item(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "# A title\n", "a.md")
    write(tmp_path, BODY, "b.md")
    write(tmp_path, HEAD + BODY, "c.md")
    write(tmp_path, HEAD + BODY, "d.md")
    with pytest.raises(ItemError) as caught:
        read_items(tmp_path)
    lines = str(caught.value).splitlines()
    assert [Path(line.split(": ")[0]).name for line in lines] == ["a.md"] * 5 + ["b.md", "d.md"]
    assert lines[-1].endswith("has the title of c.md: 'A title'")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "item.md"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ItemError, match=r"item\.md: cannot be read"):
        read_item(path)


def test_check_succeeds_and_list_has_every_item() -> None:
    checked = call("check")
    assert (checked.returncode, checked.stdout) == (0, "5 items are complete\n")
    listed = call("list")
    assert listed.returncode == 0
    for item in read_items():
        assert item.identifier in listed.stdout


def test_show_prints_an_item_and_names_those_there_are() -> None:
    item = read_items()[0]
    shown = call("show", item.identifier)
    assert shown.returncode == 0
    assert "Measure of success" in shown.stdout
    unknown = call("show", "nothing")
    assert unknown.returncode == 1
    assert item.identifier in unknown.stderr


def test_check_fails_with_a_line_a_problem(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "# A title\n")
    checked = call("check", "--directory", str(tmp_path))
    assert checked.returncode == 1
    assert len(checked.stderr.splitlines()) == len(SECTIONS)
    empty = call("check", "--directory", str(tmp_path / "none"))
    assert empty.returncode == 1
    assert "has no research items" in empty.stderr


def test_help_is_given() -> None:
    assert "check" in call("--help").stdout
