"""The version is one number: in the package, the changelog and the citation."""

import re
from pathlib import Path

import unclip

ROOT = Path(__file__).parents[1]
RELEASE = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)


def test_changelog_starts_with_this_version() -> None:
    releases = RELEASE.findall((ROOT / "CHANGELOG.md").read_text())
    assert releases[0][0] == unclip.__version__
    assert releases == sorted(releases, key=lambda release: [int(part) for part in release[0].split(".")], reverse=True)


def test_citation_names_this_release() -> None:
    version, date = RELEASE.findall((ROOT / "CHANGELOG.md").read_text())[0]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation
    assert f"\ndate-released: {date}\n" in citation
