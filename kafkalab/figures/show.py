"""A figure in the output of a cell, with words for who cannot see it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show(figure: "Figure", alt: str) -> None:
    """Show a figure below the cell, and close it.

    Args:
        figure: Of Matplotlib.
        alt: What the picture shows, in a full sentence: the picture's alternative text in JupyterLab and in the pages.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need
    from IPython.display import display  # noqa: PLC0415

    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)  # else it would be shown once more at the end of the cell
