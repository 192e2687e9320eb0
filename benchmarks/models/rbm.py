"""The restricted Boltzmann machine beside scikit-learn's, with the same weights and updates."""

import torch

from benchmarks.models._contest import Case, Contest, sized
from nnlib.data.tables import digits
from nnlib.energy.rbm import RBM


def rbm(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """An epoch of persistent contrastive divergence, features, and scores of binary digits.

    Both learn by the same rule, with as many chains as a batch has rows and one step an update, in
    float32. Their dice differ, so that the work is held to be the same by what a fitted machine
    computes; tests/energy/test_rbm.py holds the likelihoods to each other. The peer knows no GPU.
    """
    if device.type != "cpu":
        return []
    from sklearn.neural_network import BernoulliRBM

    x = (digits("train").x > 0.5).to(dtype)
    rows, b, h = x.numpy(), size["b"], size["h"]
    peer = BernoulliRBM(h, learning_rate=0.05, batch_size=b, n_iter=1, random_state=0)
    fitted = BernoulliRBM(h, learning_rate=0.05, batch_size=b, n_iter=3, random_state=0).fit(rows)
    mine, same, steps = RBM(x.shape[1], h, dtype=dtype), RBM.from_scikit_learn(fitted), len(x) // b
    learn = {"steps": steps, "batch_size": b, "lr": 0.05, "anneal": False}
    same.requires_grad_(False)
    features = {
        "nnlib": lambda: same.hidden_probs(x),
        "sklearn": lambda: torch.from_numpy(fitted.transform(rows)),
    }
    free = {
        "nnlib": lambda: {"F": same(x)},
        "sklearn": lambda: {"F": torch.from_numpy(fitted._free_energy(rows))},
    }
    told = {side: (lambda run=run: {"h": run()}) for side, run in features.items()}
    epoch = {"nnlib": lambda: mine.fit(x, **learn), "sklearn": lambda: peer.fit(rows)}
    return [
        Contest("RBM, an epoch of PCD-1", size, epoch, free),
        Contest("RBM, features", size, features, told),
    ]


SIZES = sized("bh", (10, 100), (64, 100), (64, 500))
CASES = {"rbm": Case(rbm, SIZES, SIZES)}
