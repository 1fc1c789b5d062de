"""What a page shows, as a person reads it."""

from streamlit.testing.v1 import AppTest


def facts(app: AppTest) -> dict[str, str]:
    """Every named fact on the page, from all of its tables of two columns."""
    found: dict[str, str] = {}
    for table in (element.value for element in app.table):
        names, values = (table[column] for column in table.columns)
        found |= {read(name): read(value) for name, value in zip(names, values, strict=True)}
    return found


def read(text: str) -> str:
    """Text as it comes out of Markdown: without what it was escaped by."""
    return text.replace("\\", "").replace("\u2060", "")
