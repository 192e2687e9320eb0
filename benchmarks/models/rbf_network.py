"""An RBF network beside what scikit-learn and SciPy have of it: centres, interpolation, ridge."""

import numpy as np
import torch

from benchmarks.models._contest import Case, Contest, sized
from nnlib.approximation.rbf_network import gaussian_kernel, interpolate, kernel_ridge, kmeans


def rbf_network(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Interpolate n points of d features and use it; ridge on them; place h centres."""
    if device.type != "cpu":
        return []  # the peers know no other
    from scipy.interpolate import RBFInterpolator
    from sklearn.cluster import KMeans
    from sklearn.kernel_ridge import KernelRidge

    draw = torch.Generator().manual_seed(0)
    x = torch.rand(size["n"], size["d"], generator=draw, dtype=torch.float64)
    y = (4 * x).sin().sum(1, keepdim=True)
    at = torch.rand(size["n"], size["d"], generator=draw, dtype=torch.float64)
    as_array = tuple(np.asarray(part) for part in (x, y, at))
    starts = x[: size["h"]]

    def plate() -> torch.Tensor:
        return interpolate(x, y, kernel="thin_plate")(at)

    def scipys() -> torch.Tensor:
        return torch.from_numpy(RBFInterpolator(as_array[0], as_array[1])(as_array[2]))

    def ridge() -> torch.Tensor:
        return gaussian_kernel(at, x, 0.3) @ kernel_ridge(x, y, sigma=0.3, ridge=1e-3)

    def sklearns() -> torch.Tensor:
        peer = KernelRidge(alpha=1e-3, kernel="rbf", gamma=1 / (2 * 0.3**2))
        return torch.from_numpy(peer.fit(as_array[0], as_array[1]).predict(as_array[2]))

    def ours() -> torch.Tensor:
        return kmeans(x, size["h"], iterations=10, generator=torch.Generator().manual_seed(0))

    def theirs() -> KMeans:
        peer = KMeans(len(starts), n_init=1, max_iter=10, tol=0, random_state=0)
        return peer.fit(as_array[0])

    def held(run):
        return lambda: {"y": run()}

    return [
        Contest("thin plate: fit and use", size, {"nnlib": plate, "scipy": scipys},
                {"nnlib": held(plate), "scipy": held(scipys)}),
        Contest("kernel ridge: fit and use", size, {"nnlib": ridge, "sklearn": sklearns},
                {"nnlib": held(ridge), "sklearn": held(sklearns)}),
        # Starts are drawn at random, so the ends are not the same: timed, and not held equal.
        Contest("k-means, 10 rounds", size, {"nnlib": ours, "sklearn": theirs}),
    ]  # fmt: skip


SIZES = sized("ndh", (60, 2, 5), (500, 2, 50), (2_000, 2, 200))
CASES = {"rbf_network": Case(rbf_network, SIZES, SIZES)}
