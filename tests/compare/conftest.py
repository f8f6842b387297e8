"""Fixtures of this package."""

from fastprompt.compare.report import page

import pytest

from support.reports import CASES


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """pages(case): the page of one of CASES, written once."""
    written = {}

    def written_page(case):
        if case not in written:
            written[case] = page.write_report(CASES[case](), tmp_path_factory.mktemp("report"))
        return written[case]

    return written_page
