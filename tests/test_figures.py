"""Every stored figure has words for who cannot see it."""

import nbformat
import pytest

from kafkalab.headless import NOTEBOOKS

WORDS = 5  # of the shortest sentence that says what a picture shows


@pytest.mark.parametrize(
    "path", sorted([*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("solutions/*.ipynb")]), ids=lambda path: path.stem
)
def test_each_stored_figure_has_an_alternative_text(path):
    for number, cell in enumerate(nbformat.read(path, 4).cells):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                sentence = len(alt.split()) >= WORDS and alt[0].isupper() and alt.endswith(".")
                assert sentence, f"cell {number}: the figure's alternative text is no sentence: {alt!r}"
