"""The templates of all pages; they escape what is not marked as HTML."""

from functools import cache

from jinja2 import Environment, PackageLoader, Template


@cache
def page_template(name: str) -> Template:
    """Return a template of this folder, with its style sheet in reach."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    return Environment(loader=PackageLoader("fxhelpers.reports"), autoescape=True)
