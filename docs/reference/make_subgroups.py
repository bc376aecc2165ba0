"""Write the shipped model's figures by subgroup into docs/responsible-use.md; a test holds the page to the model card's.

Run ``make reference-pages`` after a training.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "responsible-use.md"
CARD = REPOSITORY / "indexes" / "default" / "attributes" / "MODEL_CARD.md"
DESCRIPTION = CARD.with_name("bundle.json")
START, END = "<!-- subgroups: made by make reference-pages -->", "<!-- subgroups end -->"


def subgroups() -> str:
    """Return the model card's tables of subgroups, each under the title of the pictures it was measured on."""
    lines = [f"Attribute model `{json.loads(DESCRIPTION.read_text())['name']}`, as it ships:"]
    for title, text in re.findall(r"^### (.+?)\n(.*?)(?=^###? |\Z)", CARD.read_text(), re.MULTILINE | re.DOTALL):
        tables = re.findall(r"^\| subgroup \|.*?\n\n.*?$", text, re.MULTILINE | re.DOTALL)
        if tables:
            lines += ["", f"**{title}**", "", "\n\n".join(tables)]
    return "\n".join(lines)


def filled(page: str) -> str:
    """Return the page with the tables between its two marks."""
    before, _, rest = page.partition(START)
    return f"{before}{START}\n\n{subgroups()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
