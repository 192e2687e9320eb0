"""A self-organizing map beside MiniSom's: the same examples, rates and radii, hence equal units."""

import torch

from benchmarks.models._contest import Case, Contest, sized
from nnlib.representation.self_organizing_map import SelfOrganizingMap


def self_organizing_map(
    size: dict[str, int], device: torch.device, dtype: torch.dtype
) -> list[Contest]:
    """Learn online and in batches from n examples of d features, on h × h units, and find winners.

    The peer knows no GPU, and computes in float64.
    """
    if device.type != "cpu":
        return []
    from minisom import MiniSom

    n, d, side, passes = size["n"], size["d"], size["h"], 3
    x = torch.rand(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, order = x.numpy(), torch.arange(n)
    sigma, lr = ({part: side / 4 / (1 + 2 * torch.arange(k) / k) for part, k in
                  (("online", n), ("batch", passes))},
                 0.5 / (1 + 2 * torch.arange(n) / n))  # fmt: skip

    def peer(rate: float = 0.5, **how) -> MiniSom:
        return MiniSom(side, side, d, sigma=side / 4, learning_rate=rate, random_seed=0, **how)

    start = torch.from_numpy(peer().get_weights().copy())

    def mine() -> SelfOrganizingMap:
        som = SelfOrganizingMap(side, side, d, dtype=torch.float64)
        som.weight.data.copy_(start)
        return som

    def online() -> torch.Tensor:
        how = {"steps": n, "sigma": sigma["online"].double(), "lr": lr.double(), "order": order}
        return mine().fit(x, method="online", init="keep", **how).weight.detach()

    def theirs_online() -> torch.Tensor:
        som = peer()
        som.train(rows, n)
        return torch.from_numpy(som.get_weights())

    def batch() -> torch.Tensor:
        radii = sigma["batch"].double()
        return mine().fit(x, steps=passes, sigma=radii, init="keep").weight.detach()

    def theirs_batch() -> torch.Tensor:
        som = peer(1.0, decay_function=lambda rate, *_: rate)
        som.train_batch_offline(rows, passes)
        return torch.from_numpy(som.get_weights())

    fitted, same = mine(), peer()

    def errors() -> torch.Tensor:
        return torch.stack([fitted.quantization_error(x), fitted.topographic_error(x)])

    def their_errors() -> torch.Tensor:
        told = [same.quantization_error(rows), same.topographic_error(rows)]
        return torch.tensor(told, dtype=torch.float64)

    pairs = {
        "SOM, online": (online, theirs_online),
        f"SOM, {passes} passes in batches": (batch, theirs_batch),
        "SOM, both errors": (errors, their_errors),
    }
    return [
        Contest(what, size, {"nnlib": ours, "minisom": theirs},
                {"nnlib": lambda run=ours: {"y": run()},
                 "minisom": lambda run=theirs: {"y": run()}})
        for what, (ours, theirs) in pairs.items()
    ]  # fmt: skip


SIZES = sized("ndh", (100, 3, 5), (1_000, 16, 10), (4_000, 64, 15))
CASES = {"self_organizing_map": Case(self_organizing_map, SIZES, SIZES)}
