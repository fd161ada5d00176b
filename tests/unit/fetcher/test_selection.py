"""Which files of a repository are fetched: one row per way in which publishers lay out their repositories."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.fetcher.sources.selection import parse_patterns, select_files

CASES = {
    "safetensors make pytorch, tensorflow, flax, rust, onnx and openvino copies superfluous": (
        "config.json tokenizer.json vocab.txt 1_Pooling/config.json model.safetensors",
        (
            "pytorch_model.bin tf_model.h5 flax_model.msgpack rust_model.ot onnx/model.onnx onnx/config.json "
            "openvino/openvino_model.bin openvino/openvino_model.xml coreml/model.mlmodel"
        ),
    ),
    "shards are kept with their index, and the index of what is left out goes with it": (
        "config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json",
        "pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin pytorch_model.bin.index.json",
    ),
    "an index stays when its shards are named otherwise": (
        "config.json model.safetensors.index.json layers-00.safetensors layers-01.safetensors",
        "",
    ),
    "the publisher's original and consolidated weights are left out": (
        "config.json params.json model-00001-of-00001.safetensors LICENSE",
        (
            "original/consolidated.00.pth original/params.json original/tokenizer.model consolidated.safetensors "
            "consolidated.00.pth metal/model.bin"
        ),
    ),
    "consolidated shards and their index are left out": (
        "config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json",
        (
            "consolidated-00001-of-00002.safetensors consolidated-00002-of-00002.safetensors "
            "consolidated.safetensors.index.json"
        ),
    ),
    "consolidated weights are kept when there are no others": ("params.json tekken.json consolidated.safetensors", ""),
    "original weights are kept when there are no others": (
        "README.md original/consolidated.00.pth original/params.json original/tokenizer.model",
        "",
    ),
    "pytorch weights are kept when there are no others": (
        "config.json pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin pytorch_model.bin.index.json",
        "tf_model.h5 model.onnx",
    ),
    "a folder that has only pickles keeps them beside a folder that has safetensors": (
        "model_index.json unet/diffusion_pytorch_model.safetensors safety_checker/pytorch_model.bin",
        "unet/diffusion_pytorch_model.bin",
    ),
    "a pipeline is not fetched a second time as one file": (
        "model_index.json unet/diffusion_pytorch_model.safetensors vae/diffusion_pytorch_model.safetensors",
        "v1-5-pruned.safetensors v1-5-pruned.ckpt",
    ),
    "one file at the top is fetched when it is all there is": ("model_index.json sd_xl_base_1.0.safetensors", ""),
    "variants are left out beside the weights that they are made of": (
        "unet/model.safetensors vae/model-00001-of-00002.safetensors vae/model-00002-of-00002.safetensors",
        "unet/model.fp16.safetensors unet/model.non_ema.safetensors vae/model.fp16-00001-of-00001.safetensors",
    ),
    "a variant is kept when there is nothing else": ("config.json model.fp16.safetensors", ""),
    "a variant alone does not stand for full weights in another format": (
        "config.json pytorch_model.bin",
        "model.fp16.safetensors",
    ),
    "an adapter does not stand for the weights beside it": (
        "adapter_config.json adapter_model.safetensors pytorch_model.bin",
        "adapter_model.bin",
    ),
    "the state of the training is never fetched": (
        "adapter_config.json adapter_model.safetensors trainer_state.json",
        "optimizer.pt scheduler.pt rng_state_0.pth training_args.bin",
    ),
    "a small tensor file beside safetensors is no copy of them": ("model.safetensors spk_dict.pt", "model.pt"),
    "GGUF is kept when there is nothing else": ("config.json model-Q4_K_M.gguf", ""),
    "GGUF is left out beside safetensors": ("config.json model.safetensors", "model-Q4_K_M.gguf gguf/model-f16.gguf"),
    "ONNX is kept when there is nothing else": ("config.json onnx/model.onnx onnx/model.onnx_data", ""),
    "flax is kept when there is nothing else": ("config.json flax_model.msgpack", ""),
    "files that are no weights are all kept": ("README.md config.json modeling_x.py chat_template.jinja a/b/c.txt", ""),
    "nothing is chosen from nothing": ("", ""),
}


@pytest.mark.parametrize(("kept", "dropped"), CASES.values(), ids=CASES.keys())
def test_the_files_of_a_model_are_chosen(kept: str, dropped: str) -> None:
    assert select_files([*kept.split(), *dropped.split()]).paths == tuple(sorted(kept.split()))


@pytest.mark.parametrize(
    ("allow", "ignore", "expected"),
    [
        ("*.bin", "", "pytorch_model.bin"),
        ("config.json,onnx/", "", "config.json onnx/config.json onnx/model.onnx"),
        ("onnx/*\n*.json", "onnx/*.json", "config.json onnx/model.onnx"),
        ("", "*.safetensors", "config.json pytorch_model.bin"),
        ("", "*.safetensors, *.bin", "config.json onnx/config.json onnx/model.onnx"),
        ("nothing*", "", ""),
    ],
)
def test_patterns_have_the_last_word(allow: str, ignore: str, expected: str) -> None:
    paths = ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "onnx/config.json"]
    assert select_files(paths, parse_patterns(allow), parse_patterns(ignore)).paths == tuple(expected.split())


@pytest.mark.parametrize(
    ("paths", "word"),
    [
        ("model-Q2_K.gguf model-Q4_K_M.gguf model-Q8_0.gguf", "allowPatterns"),
        ("config.json pytorch_model.bin", "pickles"),
        ("README.md", "no file that is known to be weights"),
    ],
)
def test_an_odd_choice_is_told(paths: str, word: str) -> None:
    (warning,) = select_files(paths.split()).warnings
    assert word in warning


def test_an_ordinary_choice_is_told_nothing_about() -> None:
    assert select_files(["config.json", "model.safetensors", "pytorch_model.bin"]).warnings == ()


_PARTS = st.sampled_from(
    ["config.json", "model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "model.gguf", "model.onnx",
     "tf_model.h5", "consolidated.00.pth", "optimizer.pt", "x.pt", "notes.txt", "model_index.json"]
)  # fmt: skip
_FOLDERS = st.sampled_from(["", "onnx/", "original/", "unet/", "a/b/"])
_PATHS = st.sets(st.builds(lambda folder, name: folder + name, _FOLDERS, _PARTS), max_size=12)


@given(_PATHS)
def test_the_choice_is_stable_and_never_leaves_a_model_without_weights(paths: set[str]) -> None:
    chosen = set(select_files(paths).paths)
    assert chosen <= paths
    assert set(select_files(chosen).paths) == chosen
    weights = (".safetensors", ".bin", ".pth", ".gguf", ".onnx", ".h5", "x.pt")
    if any(path.endswith(weights) for path in paths):
        assert any(path.endswith(weights) for path in chosen)
    assert {
        path for path in paths if path.endswith("notes.txt") and "onnx" not in path and "original" not in path
    } <= chosen
