"""How Sphinx makes the site of these pages: `make site`. Every warning, so every broken link, is an error there."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

from rollsafe import __version__

project = "rollsafe"
author = "rollsafe contributors"
copyright = author
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# Enough for links to any heading of a page; a link to one that does not exist is a warning.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# In docstrings `single backquotes` mean code, as in Markdown.
default_role = "literal"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"rollsafe {release}"
html_static_path = ["_static"]
html_css_files = ["rollsafe.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e99", "color-brand-content": "#0b6e99"},
    "dark_css_variables": {"color-brand-primary": "#6cc3e8", "color-brand-content": "#6cc3e8"},
}

# ```python gunicorn.conf.py: the word after the language is the name of the file, here and in tests/test_docs.py.
_NAMED_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>\w+) +(?P<file>[^`\n]+?) *$", re.M)


def _show_file_names(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give each fence that names its file a caption; MyST itself leaves the name out."""
    source[0] = _NAMED_FENCE.sub(
        r"\g<indent>\g<fence>{code-block} \g<language>\n\g<indent>:caption: \g<file>", source[0]
    )


def _give_figures_a_title(app: Sphinx, docname: str, source: list[str]) -> None:
    """Tables that a command has written, as a page: named as their file, unless they have a title of their own."""
    folder, _, name = docname.rpartition("/")
    if folder == "figures" and not re.search(r"^# ", source[0], re.M):
        source[0] = f"# Figures: {name}\n\n{source[0]}"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _show_file_names)
    app.connect("source-read", _give_figures_a_title)
