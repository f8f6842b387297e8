"""What the pages need of Sphinx beside MyST: the options of a command from its parser, docstrings as napoleon reads
them, links to the other language, and the check that no page loads anything from another host."""

import argparse
import re
from pathlib import Path
from typing import Any, ClassVar

from fastprompt.cli import COMMANDS

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

_TITLES = {
    "model options": "模型选项",
    "data options": "数据选项",
    "method options": "方法选项",
    "training options": "训练选项",
    "evaluation options": "评测选项",
    "hardware options": "硬件选项",
    "run options": "运行选项",
    "positional arguments": "位置参数",
    "options": "选项",
}
# [text](zh/page.md) in English, [text](../page.md) in Chinese: pages of the other build
_OTHER_LANGUAGE = re.compile(r"\[(中文|English)\]\(((?:zh|\.\.)/[\w/.-]+)\.md\)")
_FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
# within a paragraph, after a Chinese comma or the like, or between two Chinese characters
_BEGINS_BLOCK = r"(?!\s*(?:[-|#>\n]|\d+\.|$))"
_LINE_END = re.compile(rf"(?<=[，。；：、？！）])\n *{_BEGINS_BLOCK}|(?<=[\u4e00-\u9fff])\n *(?=[\u4e00-\u9fff（])")
# what a browser loads by itself when it opens a page or its styles
_LOADED = re.compile(
    r"""<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=["'](?:https?:)?//[^"']+|url\(["']?(?:https?:)?//[^)]+"""
)


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"fastprompt {command}", add_help=False)
    COMMANDS[command].add_options(parser)
    return parser


class CommandOptions(SphinxDirective):
    """The options of the command that its argument names, in their groups, as `--help` prints them; `:without:` names a
    command whose own are left out."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"without": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        known = {action.dest for action in parser_of(self.options["without"])._actions} if self.options else set()
        parser = parser_of(name)
        formatter = parser._get_formatter()
        found: list[nodes.Node] = []
        for group in sorted(parser._action_groups, key=lambda group: group.title == "options"):  # the rest last
            actions = [action for action in group._group_actions if action.dest not in known]
            if not actions:
                continue
            title = group.title or "options"
            shown = _TITLES[title] if self.config.language == "zh_CN" else title
            found.append(nodes.rubric(text=shown))
            table = nodes.definition_list()
            for action in actions:
                term = nodes.term("", "", nodes.literal(text=_invocation(action)))
                term["ids"] = [f"{name}-{action.dest}"]
                help_text = formatter._expand_help(action) if action.help else ""
                table += nodes.definition_list_item("", term, nodes.definition("", _paragraph(help_text)))
            found.append(table)
        return found


def _paragraph(text: str) -> nodes.paragraph:
    """A help text, with the options that it names as code."""
    parts = re.split(r"(--[a-z][a-z_]*)", text)
    return nodes.paragraph(
        "", "", *(nodes.literal(text=part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts))
    )


def _invocation(action: argparse.Action) -> str:
    """An option with its value, as a usage line writes it."""
    names = ", ".join(action.option_strings)
    if action.nargs == 0:
        return names
    value = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.metavar or action.dest.upper()
    values = " ".join(value) if isinstance(value, tuple) else value
    return f"{names} {values}{' ...' if action.nargs == '+' else ''}".strip()


def _read_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """`Args, beside those of X:` as a section that napoleon knows, with a sentence before it."""
    for place, line in enumerate(lines):
        if match := re.fullmatch(r"Args, (beside .*):", line):
            lines[place : place + 1] = [f"It takes what follows {match[1]}.", "", "Args:"]
            return


def _read_page(app: Any, docname: str, content: list[str]) -> None:
    """Links to the other language lead to its pages, of another build; line ends of Chinese are no spaces."""
    text = _OTHER_LANGUAGE.sub(r'<a href="\2.html">\1</a>', content[0])
    content[0] = "".join(part if part.startswith("```") else _LINE_END.sub("", part) for part in _FENCE.split(text))


def _check_hosts(app: Any, exception: Exception | None) -> None:
    """Raises: ExtensionError: a page or a stylesheet loads something from another host."""
    if exception is not None or app.builder.format != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css") and (found := _LOADED.search(path.read_text(encoding="utf-8"))):
            raise ExtensionError(f"{path} loads from another host: {found[0]}")


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("fastprompt-options", CommandOptions)
    app.connect("autodoc-process-docstring", _read_docstring, priority=400)  # napoleon's own is 500
    app.connect("source-read", _read_page)
    app.connect("build-finished", _check_hosts)
    return {"parallel_read_safe": True}
