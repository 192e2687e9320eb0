"""The echo state network beside reservoirpy, with the same matrices."""

import numpy as np
import torch

from benchmarks.models._contest import Case, Contest, sized
from nnlib.data.series import mackey_glass
from nnlib.sequence.echo_state import EchoStateNetwork


def echo_state(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Fit, prediction and free run of a reservoir, dense and with a tenth of its connections.

    Both sides hold the same matrices, in float64; the peer's sparse ones are scipy's, as it draws
    them itself. The peer knows no GPU, so there is nothing to compare on one.
    """
    if device.type != "cpu":
        return []
    from reservoirpy.nodes import Reservoir, Ridge
    from scipy.sparse import csr_array

    t, washout, ahead = size["t"], 100, size["t"] // 4
    series = mackey_glass(t + 1)[:, None] - 0.93
    x, y = series[:-1], series[1:]
    one, ones = np.ones(1), np.ones((t, 1))
    contests = []
    for density, name in ((1.0, "echo state"), (0.1, "sparse echo state")):
        network = EchoStateNetwork(1, size["h"], ridge=1e-6, bias_scaling=0.2, density=density)
        drawn = network.recurrent.numpy()
        pool = Reservoir(
            W=drawn if density == 1 else csr_array(drawn),
            Win=network.input.numpy(), bias=network.bias.numpy(),
        )  # fmt: skip
        pool.initialize(x.numpy())
        ridge = Ridge(ridge=1e-6, fit_bias=False)
        network.fit(x, y, washout)
        same = Ridge(Wout=network.readout.T.numpy(), bias=np.zeros(1))  # for the free run
        same.initialize(np.ones((1, size["h"] + 2)), one[None])
        start = network.state.clone(), network.last.clone()

        def columns(pool=pool):
            pool.reset()
            return np.hstack([pool.run(x.numpy()), x.numpy(), ones])

        def fitted(columns=columns, ridge=ridge):
            return torch.from_numpy(ridge.fit(columns(), y.numpy(), warmup=washout).Wout)

        def predicted(columns=columns, same=same):
            return torch.from_numpy(same.run(columns()))

        def mine_ahead(network=network, start=start):
            network.state, network.last = start
            return network.generate(ahead)

        def peer_ahead(pool=pool, same=same, start=start):
            pool.state, now, run = {"out": start[0].numpy()}, start[1].numpy(), []
            for _ in range(ahead):
                now = same.step(np.concatenate([pool.step(now), now, one]))
                run.append(now)
            return torch.from_numpy(np.stack(run))

        for what, mine, peer in (
            ("fit", lambda n=network: n.fit(x, y, washout).readout.T, fitted),
            ("prediction", lambda n=network: n.predict(x), predicted),
            ("free run", mine_ahead, peer_ahead),
        ):
            runs = {"nnlib": mine, "reservoirpy": peer}
            told = {side: (lambda run=run: {"result": run()}) for side, run in runs.items()}
            contests.append(Contest(f"{name}, {what}", size, runs, told))
    return contests


SIZES = sized("th", (2000, 100), (2000, 300), (2000, 1000))
CASES = {
    "echo_state": Case(echo_state, SIZES, SIZES),
}
