"""Sphinx's settings for both languages: `make docs` builds docs/ without docs/zh/, and then docs/zh/ with
`-D language=zh_CN`. Nothing is fetched while it builds, and the pages load nothing from other hosts."""

import os
import sys
from pathlib import Path

_DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(_DOCS.parent), str(_DOCS)]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["FASTNLP_BACKEND"] = "torch"  # the reference imports what it documents, and with it a framework

import fastprompt  # noqa: E402

project = "fastprompt"
author = "the fastprompt authors"
release = fastprompt.__version__
language = "en"
smartquotes_action = "D"  # the hyphens that Sphinx writes between a parameter and its text
smartquotes_excludes = {"builders": ["man", "text"]}  # for Chinese too
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "site_extension"]
exclude_patterns = ["zh"]
default_role = "code"  # docstrings write code in single backticks
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_display_short_literal_types = True
napoleon_numpy_docstring = False
myst_heading_anchors = 3

html_theme = "furo"
# Also for Chinese: its clauses are words of the index, whose parts of three characters or more are found. Sphinx's own
# search in Chinese wants a segmenter.
html_search_language = "en"
html_title = f"fastprompt {release}"
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "languages.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
templates_path = ["_templates"]
