"""Past one process: shares of a batch, read at once or in parts, take the step of the whole batch.

Run as a program (`accelerate launch … tests/train/test_processes.py FOLDER NAME`) it is one of
several processes that train together; the tests start it so.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from nnlib.train.loop import train  # noqa: E402

RUN = {"steps": 12, "batch_size": 15, "lr": 0.02, "clip": 0.5, "seed": 4}  # 15: shares differ


def data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(52, 3, generator=generator, dtype=torch.float64)
    return x, (x[:, 0] > 0).long()


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()


def loss(model, x, y):
    return nn.functional.cross_entropy(model(x), y)


def run(model=None, **kwargs):
    model = model or net()
    history = train(model, loss, data(), **RUN | kwargs)
    return model.state_dict(), torch.tensor(history.loss)


def launch(folder: Path, *names: str) -> None:
    """Run this file in two processes that talk over gloo; they write what they end with."""
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", "0", __file__, str(folder), *names]
    env = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "MASTER_PORT": "0"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


CASES = {
    "whole": {},
    "parts": {"accumulate": 3},
    "resumed": {"steps": 20},  # from the checkpoint that one process wrote
    "first": {"steps": 8},  # for one process to go on from
}


def main(folder: Path, names: list[str]) -> None:
    from accelerate import PartialState

    for name in names:
        kept = {"checkpoint": folder / name} if name in ("resumed", "first") else {}
        state, losses = run(**CASES[name], **kept)
        process = PartialState()
        assert process.num_processes == 2, process
        save_file(
            state | {"losses": losses}, folder / f"{name}-{process.process_index}.safetensors"
        )
        process.wait_for_everyone()
    save_file(interrupted(folder / "noisy"), folder / f"noisy-{process.process_index}.safetensors")


def interrupted(folder: Path) -> dict[str, torch.Tensor]:
    """Losses with dropout, which each process draws for itself: of one run, and of one in two."""
    from accelerate import PartialState

    losses = {}
    for name, ends in (("whole", (12,)), ("resumed", (7, 12))):
        for steps in ends:
            model = nn.Sequential(net()[0], nn.Dropout(0.5), nn.Linear(8, 2).double())
            torch.manual_seed(PartialState().process_index)
            kept = {"checkpoint": folder} if name == "resumed" else {}
            losses[name] = run(model, steps=steps, **kept)[1]
    return losses


@pytest.mark.equation("optimizers-shared-batch")
@pytest.mark.parametrize("parts", [2, 3, 7, 15])
def test_a_batch_read_in_parts_takes_the_step_of_the_whole(parts):
    (wanted, wanted_loss), (got, got_loss) = run(), run(accumulate=parts)
    torch.testing.assert_close(got_loss, wanted_loss, rtol=1e-6, atol=1e-12)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-12)


def test_a_batch_too_small_for_its_shares_is_refused():
    with pytest.raises(ValueError, match="batch_size=15 must give an example to each of 16 shares"):
        run(accumulate=16)


def test_two_processes_take_the_steps_of_one_with_the_same_whole_batch(tmp_path):
    run(steps=8, checkpoint=tmp_path / "resumed")  # one process begins what two end
    launch(tmp_path, *CASES)
    after, _ = run(steps=20, checkpoint=tmp_path / "first")  # one ends what two began
    for name in CASES:
        wanted, losses = run(**{k: v for k, v in CASES[name].items() if k != "accumulate"})
        for process in (0, 1):
            got = load_file(tmp_path / f"{name}-{process}.safetensors")
            torch.testing.assert_close(got.pop("losses"), losses, rtol=1e-6, atol=1e-12)
            for key, value in wanted.items():
                torch.testing.assert_close(got[key], value, rtol=1e-9, atol=1e-12)
    for process in (0, 1):
        noisy = load_file(tmp_path / f"noisy-{process}.safetensors")
        assert torch.equal(noisy["resumed"], noisy["whole"])
    wanted, _ = run(steps=20)
    for key, value in wanted.items():
        torch.testing.assert_close(after[key], value, rtol=1e-9, atol=1e-12)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
