"""What the pages tell people to type and to write is there: commands, arguments, keys, files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cells import ROOT

from smolvla_ros.cell import SECTIONS, load_section
from smolvla_ros.cli.main import make_parser
from smolvla_ros.schema import ConfigError

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LAUNCH = ROOT / "launch"


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of every fenced block."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def lines(page: Path) -> Iterator[str]:
    """Every line of the blocks, continued ones joined, without comments."""
    for _, text in blocks(page):
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            yield re.sub(r"(^|\s)#.*$", "", line).strip()


def said(program: str) -> list:
    """Every call of a program on the pages, as test cases: its words."""
    found = []
    for page in PAGES:
        for line in lines(page):
            for part in re.split(r"&&|\||;(?![^\"]*\"$)", line):
                match = re.match(rf"(?:\S*/)?{program}\s+(.*)", part.strip())
                if match:
                    words = shlex.split(match[1].split(" > ")[0])
                    found.append(pytest.param(words, id=f"{page.stem}: {' '.join(words)}"[:120]))
    assert found, f"no {program} on any page"
    return found


@pytest.mark.parametrize("words", said("smolvla-ros"))
def test_a_command_is_one_that_the_program_takes(words, capsys) -> None:
    try:
        make_parser().parse_args(words)
    except SystemExit as end:
        pytest.fail(f"{end.code}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_command_in_a_sentence_is_one_too(page, capsys) -> None:
    for quoted in re.findall(r"`smolvla-ros ([^`]+)`", page.read_text()):
        name, *words = quoted.split()
        with pytest.raises(SystemExit) as end:
            make_parser().parse_args([name, "--help"])
        helped = capsys.readouterr().out
        assert end.value.code == 0, f"{page.name}: {quoted}"
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"{word}\b", helped), f"{page.name}: {quoted}"


@pytest.mark.parametrize("words", said("ros2 launch smolvla_ros"))
def test_a_launch_file_is_there_and_takes_what_it_is_given(words) -> None:
    file, *given = words
    text = (LAUNCH / file).read_text() + (ROOT / "smolvla_ros" / "launching.py").read_text()
    for included in re.findall(r"(\w+\.launch\.py)", text):
        text += (LAUNCH / included).read_text()
    for word in given:
        name, assigned, _ = word.partition(":=")
        assert word == "-s" or (assigned and f'"{name}"' in text), word


@pytest.mark.parametrize("words", said("ros2 service call"))
def test_a_service_is_one_of_a_node_of_ours(words) -> None:
    services = set()
    for path in (ROOT / "smolvla_ros" / "nodes").glob("*.py"):
        text = path.read_text()
        node = re.search(r'super\(\).__init__\(\s*"(\w+)"', text)
        kinds = re.findall(r'create_service\(\s*(\w+), "~?/?(\w+/?\w*)"', text)
        services |= {(f"/{node[1]}/{name}", f"std_srvs/srv/{kind}") for kind, name in kinds}
    name, kind = words[:2]
    # In a namespace the name is longer.
    assert any(name.endswith(own) and kind == its for own, its in services), services


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_link_leads_to_a_file(page) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_key_of_a_cell_is_one_that_a_cell_has(page) -> None:
    for language, text in blocks(page):
        is_cell = language == "yaml" or re.match(r"(#.*\n)*/\*\*", text)
        document = yaml.safe_load(text) if is_cell else {}
        for name, body in document.items():
            section = str(name).rsplit("/", 1)[-1]
            if section not in SECTIONS:
                continue
            try:
                load_section(section, body["ros__parameters"], None)
            except ConfigError as error:
                # A part of a cell: what it leaves out is no slip of the page.
                wrong = [p for p in error.problems if ": missing" not in p]
                assert not wrong, f"{page.name}: {wrong}"
