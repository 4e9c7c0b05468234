"""Reads research items: Markdown with a head of `title`, `area` and `status`, and five sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

DIRECTORY = Path(__file__).resolve().parent / "research"

SECTIONS = ("Problem", "Hypothesis", "Data needed", "Method", "Measure of success")

_HEAD = re.compile(r"\A---\n(?P<head>.*?)^---\n(?P<body>.*)\Z", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~)")
_HEADING = re.compile(r"^(?P<marks>#{1,2}) +(?P<text>.+?) *#*$")


class ItemError(ValueError):
    """A file is no research item; the message names the file and all that is wrong with it."""


class Head(BaseModel):
    """The head of an item."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Annotated[str, Field(min_length=1)]
    area: Literal["fsrs-optimization", "complexity", "partitioning"]
    status: Literal["open", "in progress", "adopted", "rejected"]


@dataclass(frozen=True)
class Item:
    """One research item; the texts are Markdown without their headings."""

    path: Path
    title: str
    area: str
    status: str
    problem: str
    hypothesis: str
    data_needed: str
    method: str
    measure_of_success: str

    @property
    def identifier(self) -> str:
        """The file's name without its ending."""
        return self.path.stem


def read_items(directory: Path = DIRECTORY) -> list[Item]:
    """Return all items of a directory, sorted by file name.

    Raises ItemError naming every file that is no item, or that the directory has none.
    """
    paths = sorted(directory.glob("*.md"))
    if not paths:
        raise ItemError(f"{directory}: has no research items (*.md)")
    items: list[Item] = []
    problems: list[str] = []
    for path in paths:
        try:
            items.append(read_item(path))
        except ItemError as error:
            problems.append(str(error))
    titles: dict[str, Path] = {}
    for item in items:
        if item.title in titles:
            other = titles[item.title].name
            problems.append(f"{item.path}: has the title of {other}: {item.title!r}")
        titles[item.title] = item.path
    if problems:
        raise ItemError("\n".join(problems))
    return items


def read_item(path: Path) -> Item:
    """Return the item of a file. Raises ItemError naming the file and all that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ItemError(f"{path}: cannot be read: {error}") from None
    match = _HEAD.match(text)
    if match is None:
        raise ItemError(f"{path}: has no head (title, area and status between two lines of ---)")
    head, problems = _read_head(match["head"])
    headings, sections = _split(match["body"])
    if head is not None and headings != [head.title]:
        problems.append(f"the heading must be '# {head.title}', as the title is")
    problems += _missing(sections)
    if head is None or problems:
        raise ItemError("\n".join(f"{path}: {problem}" for problem in problems))
    texts = {name: "\n".join(lines).strip() for name, lines in sections}
    return Item(
        path=path,
        title=head.title,
        area=head.area,
        status=head.status,
        problem=texts["Problem"],
        hypothesis=texts["Hypothesis"],
        data_needed=texts["Data needed"],
        method=texts["Method"],
        measure_of_success=texts["Measure of success"],
    )


def _read_head(text: str) -> tuple[Head | None, list[str]]:
    try:
        return Head.model_validate(yaml.safe_load(text) or {}), []
    except yaml.YAMLError as error:
        return None, [f"the head is no YAML: {' '.join(str(error).split())}"]
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, each['loc'])) or 'the head'}: {each['msg']}"
            for each in error.errors()
        ]
        return None, problems


def _split(body: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the headings of the first level, and the sections of the second with their lines."""
    headings: list[str] = []
    sections: list[tuple[str, list[str]]] = []
    fenced = False
    for line in body.splitlines():
        # A comment in a block of code looks like a heading.
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.match(line)
        if heading is None:
            if sections:
                sections[-1][1].append(line)
        elif heading["marks"] == "#":
            headings.append(heading["text"])
        else:
            sections.append((heading["text"], []))
    return headings, sections


def _missing(sections: list[tuple[str, list[str]]]) -> list[str]:
    names = [name for name, _ in sections]
    problems = [f"section '## {name}' is missing" for name in SECTIONS if name not in names]
    problems += [
        f"section '## {name}' is not one of {', '.join(SECTIONS)}"
        for name in names
        if name not in SECTIONS
    ]
    problems += [
        f"section '## {name}' is there {names.count(name)} times"
        for name in SECTIONS
        if names.count(name) > 1
    ]
    problems += [
        f"section '## {name}' is empty"
        for name, lines in sections
        if name in SECTIONS and not "".join(lines).strip()
    ]
    if not problems and names != list(SECTIONS):
        problems.append(f"the sections must come in this order: {', '.join(SECTIONS)}")
    return problems
