"""The documents are complete, and their links resolve: each setting, route and error code is in them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fakeredis import FakeRedis

from api.app import create_app
from common.errors import SLMError
from common.redis.subscriber import Subscriber
from common.settings import ROOT, Settings

DOCS = ROOT / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "benchmarks").glob("*.md"), *(ROOT / "clients").glob("*.md")]
)
HISTORY = {"CHANGELOG.md", "log.md"}  # they name deleted files
TEST_NAME = re.compile(r"`(test_\w+)`")
PATH = re.compile(r"`((?:api|benchmarks|common|deploy|SLMInit|tests|training|worker)/[\w./-]+\.\w+)`")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """The targets of its links and pictures that are files here."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Its headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_broken(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    other = page if not name else page.parent / name
    return not other.exists() or (anchor != "" and anchor not in anchors(other))


def setting_rows() -> list[str]:
    """The table as it should be for the settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`".replace(f"{ROOT}/", "")
        rows.append(f"| `SLM_{name.upper()}` | {default} | {field.description} |")
    return rows


def error_codes(cls: type[SLMError] = SLMError) -> set[tuple[str, int]]:
    found = {(cls.code, cls.status)}
    for child in cls.__subclasses__():
        found |= error_codes(child)
    return found


def sections_with_samples() -> list[str]:
    """The headings of the user's document under which there is code."""
    document = (DOCS / "slm_api_documentation.md").read_text("utf-8")
    parts = re.split(r"^###? ", document, flags=re.MULTILINE)[1:]
    return [part.splitlines()[0] for part in parts if "```" in part]


def test_every_sample_of_the_users_document_is_covered_in_order() -> None:
    page = (DOCS / "your-document.md").read_text("utf-8")
    assert re.findall(r"^\| ([^|]+) \| (?:yes|no)", page, re.MULTILINE) == sections_with_samples()


def test_every_setting_is_documented_with_its_default_and_no_other() -> None:
    page = (DOCS / "settings.md").read_text("utf-8")
    assert sorted(re.findall(r"^\| `SLM_.*$", page, re.MULTILINE)) == sorted(setting_rows())


def test_every_error_code_is_documented_with_its_status() -> None:
    document = (DOCS / "errors.md").read_text("utf-8")
    assert {
        f"| `{code}` | {status} |" for code, status in error_codes() if f"| `{code}` | {status} |" not in document
    } == set()


def test_every_route_is_documented() -> None:
    redis = FakeRedis()
    app = create_app(Settings(), redis=redis, dispatch=lambda _: None, subscriber=Subscriber(redis))
    page = (DOCS / "api.md").read_text("utf-8").replace("<id>", "<job_id>")
    rules = {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"}
    assert {rule for rule in rules if f"{rule}`" not in page} == set()


RUNNERS = {"pytest", "pytest-asyncio"}  # they run the tests of other servers
PIN = r"^([\w-]+)(?:\[\w+\])?==(\S+)$"


def pinned() -> dict[str, set[str]]:
    """The versions of the foreign clients' packages with which the tests run, by package."""
    foreign = ROOT / "tests" / "foreign"
    node = json.loads((foreign / "node" / "package.json").read_text("utf-8"))["dependencies"]
    found: dict[str, set[str]] = {}
    for file in (*foreign.rglob("requirements.txt"), ROOT / "requirements" / "test.txt"):
        for name, version in re.findall(PIN, file.read_text("utf-8"), re.MULTILINE):
            found.setdefault(name, set()).add(version)
    for name, version in node.items():
        found.setdefault(name, set()).add(version)
    return found


def test_every_client_in_the_list_is_tested_with_its_version() -> None:
    page = (DOCS / "works-with.md").read_text("utf-8")
    rows = re.findall(r"^\| \[?`([^`]+)`.*? \| ([\d.]+) \|.*\| `(tests/[^`]+)` \|$", page, re.MULTILINE)
    assert len(rows) >= 9
    assert [row for row in rows if row[1] not in pinned()[row[0]] or not (ROOT / row[2]).is_file()] == []
    applications = re.findall(r"^\| ([\w ]+) \| [^|]+ \| `(tests/[^`]+)` \|$", page, re.MULTILINE)
    assert len(applications) >= 3
    for name, file in applications:
        assert f"def test_{name.lower().replace(' ', '_')}_" in (ROOT / file).read_text("utf-8")
    files = (ROOT / "tests" / "foreign").rglob("requirements.txt")
    tried = {name for file in files for name, _ in re.findall(PIN, file.read_text("utf-8"), re.MULTILINE)}
    assert tried - RUNNERS <= {name for name, _, _ in rows}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_a_target(page: Path) -> None:
    assert [target for target in links(page) if is_broken(page, target)] == []


def test_the_index_lists_every_page_and_every_decision() -> None:
    index = DOCS / "README.md"
    listed = [(DOCS / target).resolve() for target in links(index)]
    assert sorted(path for path in listed if path.is_relative_to(DOCS)) == sorted(set(DOCS.rglob("*.md")) - {index})


def test_the_decisions_are_numbered_without_holes() -> None:
    numbers = list(range(1, len(DECISIONS) + 1))
    assert [int(path.name[:4]) for path in DECISIONS] == numbers
    assert [int(path.read_text("utf-8").split(".")[0].removeprefix("# ")) for path in DECISIONS] == numbers


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_a_decision_has_context_decision_and_consequences(path: Path) -> None:
    headings = re.findall(r"^## (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert headings[:3] == ["Context", "Decision", "Consequences"]


def test_the_tests_named_for_a_guarantee_exist() -> None:
    named = set(TEST_NAME.findall((DOCS / "reliability.md").read_text("utf-8")))
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named != set()
    assert {name for name in named if f"def {name}(" not in tests} == set()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in HISTORY], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    assert [name for name in PATH.findall(page.read_text("utf-8")) if not (ROOT / name).exists()] == []
