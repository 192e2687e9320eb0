"""Pictures and maps that ship inside packages: a photograph, an elevation map."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnlib import checks
from nnlib.data.split import DataSet
from nnlib.distribution import extra


@dataclass(frozen=True, kw_only=True)
class Picture(DataSet):
    """A photograph: `pixels` float32 of shape (rows, columns, 3) in 0 … 1."""

    pixels: Tensor


@dataclass(frozen=True, kw_only=True)
class Terrain(DataSet):
    """An elevation map: `height` float32 in metres, shape (rows, columns), row 0 in the south."""

    height: Tensor


def china(size: int = 64) -> Picture:
    """Load a square cut from the photograph of the Summer Palace in Beijing.

    Args:
        size: rows and columns of the result, 8 … 427, by averaging over areas.

    Returns:
        The picture with its credit, which belongs beside it wherever it is shown.

    Example:
        >>> china(32).pixels.shape
        torch.Size([32, 32, 3])
    """
    with extra("data"):
        from sklearn.datasets import load_sample_image

    size = checks.count("size", size, least=8)
    checks.number("size", size, most=427)
    image = (
        torch.tensor(np.array(load_sample_image("china.jpg")), dtype=torch.float32)
        / 255
    )
    square = image[:, :427].permute(2, 0, 1).unsqueeze(0)
    small = torch.nn.functional.interpolate(square, size=(size, size), mode="area")
    return Picture(
        pixels=small[0].permute(1, 2, 0).contiguous(),
        source="china.jpg, photograph by Ultra Image, as shipped with scikit-learn",
        licence="CC BY 2.0",
    )


def elevation() -> Terrain:
    """Load the elevation of the Jacksboro fault in Tennessee: 344 × 403 cells.

    Returns:
        Heights in metres with their credit.
    """
    with extra("plot"):
        from matplotlib.cbook import get_sample_data

    with np.load(
        str(get_sample_data("jacksboro_fault_dem.npz", asfileobj=False))
    ) as file:
        height = torch.tensor(file["elevation"], dtype=torch.float32)
    return Terrain(
        height=height.flip(0).contiguous(),
        source="elevation in cells of 3 arc-seconds around the Jacksboro fault, Tennessee, "
        "as shipped with matplotlib",
        licence="part of matplotlib's sample data, whose notes name no author and no licence for "
        "this file; elevation of the United States is commonly published in the public domain",
    )
