"""Reading model folders: what is read, what is renamed, and what is refused by name."""

import json
import subprocess
import sys

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nnlib.hugging_face import (
    Part,
    load_renamed,
    read_folder,
    read_model,
    refuse_options,
    transposed,
)
from tests.support import refuses


def write(folder, config=None, **shards):
    folder.mkdir(exist_ok=True)
    text = json.dumps({"model_type": "tiny"} if config is None else config)
    (folder / "config.json").write_text(text)
    for name, tensors in shards.items():
        save_file(tensors, folder / f"{name.replace('_', '-')}.safetensors")
    return folder


def index(folder, weight_map):
    text = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(text)


A, B = torch.arange(6.0).view(2, 3), torch.ones(2)


def test_a_folder_gives_its_configuration_and_tensors(tmp_path):
    config, tensors = read_folder(write(tmp_path, {"width": 3}, model={"a": A, "b": B}))
    assert config == {"width": 3}
    assert set(tensors) == {"a", "b"}
    torch.testing.assert_close(tensors["a"], A)


def test_shards_are_joined_by_their_index(tmp_path):
    folder = write(tmp_path, model_1={"a": A}, model_2={"b": B})
    index(folder, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    assert set(read_folder(str(folder))[1]) == {"a", "b"}


def test_the_shards_of_transformers_own_saving_are_read(tmp_path):
    from transformers import GPT2Config, GPT2Model

    model = GPT2Model(GPT2Config(vocab_size=50, n_embd=16, n_head=2, n_layer=2, n_positions=8))
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    _, tensors = read_folder(tmp_path)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(tensors[name], value)


def test_a_broken_folder_is_refused_by_name(tmp_path):
    with refuses(ValueError, "must be a folder that exists"):
        read_folder(tmp_path / "nowhere")
    with refuses(ValueError, "must hold config.json"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with refuses(ValueError, "config.json is no JSON"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with refuses(ValueError, "config.json must hold an object"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with refuses(ValueError, "must hold model.safetensors or its index"):
        read_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with refuses(ValueError, "model.safetensors is no safetensors file"):
        read_folder(tmp_path)


def test_pickled_weights_are_never_read(tmp_path):
    torch.save({"a": A}, write(tmp_path) / "pytorch_model.bin")
    with refuses(ValueError, "['pytorch_model.bin'] may run code when read"):
        read_folder(tmp_path)


def test_a_broken_index_is_refused_by_name(tmp_path):
    folder = write(tmp_path, model_1={"a": A})
    index(folder, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    with refuses(ValueError, "lacks the shard 'model-2.safetensors'"):
        read_folder(folder)
    index(folder, {"a": "model-1.safetensors", "b": "model-1.safetensors"})
    with refuses(ValueError, "model-1.safetensors lacks b of its index"):
        read_folder(folder)
    for outside in ("../model-1.safetensors", "/etc/passwd", 3):
        index(folder, {"a": outside})
        with refuses(ValueError, "must map tensors to files beside it"):
            read_folder(folder)


RULES = [
    (r"fc\.w", "weight", transposed),
    (r"fc\.b", "bias", None),
    ("half0", "weight", Part(0)),
    ("half1", "weight", Part(1)),
    (r"mask\d", None, None),
]


def test_names_are_changed_and_weights_turned():
    layer = nn.Linear(3, 2)
    load_renamed(layer, {"fc.w": A.T.contiguous(), "fc.b": B, "mask3": B}, RULES)
    torch.testing.assert_close(layer.weight.data, A)
    torch.testing.assert_close(layer.bias.data, B)


def test_parts_are_put_under_one_another_in_their_order():
    layer = nn.Linear(3, 2)
    load_renamed(layer, {"half1": A[1:], "half0": A[:1], "fc.b": B}, RULES)
    torch.testing.assert_close(layer.weight.data, A)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"fc.w": A.T}, "missing: bias"),
        ({"fc.w": A.T, "fc.b": B, "more": B}, "extra: more"),
        ({"fc.b": B, "half1": A[1:]}, "missing: weight[0]"),
        ({"fc.w": A.T, "fc.b": B, "half0": A}, "given twice: half0"),
        ({"fc.w": A, "fc.b": B}, "weight must have shape (2, 3), got (3, 2)"),
        ({f"x{n}": B for n in range(9)}, "extra: x0, x1, x2, x3, x4, x5 and 3 more"),
    ],
)
def test_what_does_not_fit_is_named(tensors, message):
    layer = nn.Linear(3, 2)
    before = layer.weight.clone()
    with refuses(ValueError, message):
        load_renamed(layer, tensors, RULES)
    assert torch.equal(layer.weight, before)


def test_a_model_of_another_kind_is_refused(tmp_path):
    folder = write(tmp_path, model={"a": A})
    assert read_model(folder, "tiny")[0] == {"model_type": "tiny"}
    with refuses(ValueError, "must hold a model of type 'huge', got 'tiny'"):
        read_model(folder, "huge")
    for thing in (3, nn.Linear(2, 2)):
        with refuses(TypeError, "model_or_path must be a transformers model, a folder or a hub id"):
            read_model(thing, "tiny")


def test_a_configuration_without_what_is_needed_is_refused(tmp_path):
    folder = write(tmp_path, model={"a": A})
    with refuses(ValueError, "model_or_path has a configuration without ['width']"):
        read_model(folder, "tiny", needed=["model_type", "width"])


def test_an_option_that_ours_lacks_is_refused_by_name():
    refuse_options({"tied": True}, {"tied": True, "never_said": 3})
    with refuses(ValueError, "model_or_path has tied=False, it must be True"):
        refuse_options({"tied": False}, {"tied": True})


def test_a_name_on_the_hub_is_fetched_and_offline_is_an_error_that_says_so(tmp_path, monkeypatch):
    folder = write(tmp_path / "there", model={"a": A})
    asked = []

    def fetch(name, allow_patterns):
        asked.append((name, allow_patterns))
        if name.startswith("no-one"):
            raise OSError("no network")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert set(read_model("some-one/tiny", "tiny")[1]) == {"a"}
    assert asked[0][1] == ["config.json"]  # what it is, before what may be many gigabytes
    assert not [
        pattern for _, asks in asked for pattern in asks if "bin" in pattern or pattern == "*"
    ]
    with refuses(ConnectionError, "'no-one/tiny' is no folder here and could not be fetched"):
        read_model("no-one/tiny", "tiny")
    with refuses(ValueError, "must be a folder that exists"):
        read_model("./no/such/folder", "tiny")
    assert [name for name, _ in asked] == ["some-one/tiny", "some-one/tiny", "no-one/tiny"]


def test_tensors_by_name_come_with_their_configuration():
    config, tensors = read_model(({"a": A}, {"model_type": "tiny"}), ["huge", "tiny"])
    assert config == {"model_type": "tiny"}
    assert set(tensors) == {"a"}
    with refuses(TypeError, "model_or_path must be a transformers model"):
        read_model({"a": A}, "tiny")
    with refuses(ValueError, "must hold a model of type ['huge', 'large'], got 'tiny'"):
        read_model(({"a": A}, {"model_type": "tiny"}), ["huge", "large"])


def test_what_is_not_accepted_is_refused_before_a_tensor_is_read(tmp_path):
    folder = write(tmp_path)
    (folder / "model.safetensors").write_bytes(b"nonsense")

    def accept(config):
        raise ValueError(f"no {config['model_type']} here")

    with refuses(ValueError, "no tiny here"):
        read_model(folder, "tiny", accept=accept)
    with refuses(ValueError, "is no safetensors file"):
        read_model(folder, "tiny")


def test_nothing_imports_transformers():
    code = "import sys, nnlib.attention.gpt; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
