"""Which files of a repository are fetched: one row per way in which publishers lay out their repositories."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.artifact.errors import InvalidValue
from libs.artifact.findings import Finding
from libs.artifact.manifest import ChecksumAlgorithm, ManifestFile, new_manifest, pattern_of
from services.fetcher.sources.selection import Choice, parse_patterns, read_choice, select_files

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
    assert select_files(paths, Choice(parse_patterns(allow), parse_patterns(ignore))).paths == tuple(expected.split())


@pytest.mark.parametrize(
    ("paths", "finding", "word"),
    [
        ("a-Q2_K.gguf a-Q4_K_M.gguf a-Q8_0.gguf", Finding.VARIANT_CHOSEN, "Q4_K_M, Q2_K and Q8_0 in GGUF, Q4_K_M is"),
        ("config.json model.safetensors original/consolidated.00.pth", Finding.FILES_LEFT_OUT, "original/ is left out"),
        ("unet/model.safetensors unet/model.fp16.safetensors", Finding.FILES_LEFT_OUT, "there as fp16 too"),
        ("onnx/model.onnx onnx/model_fp16.onnx", Finding.SEVERAL_VARIANTS, "all of them are fetched"),
        ("config.json pytorch_model.bin", Finding.PICKLED_WEIGHTS, "pickles"),
        ("README.md", Finding.UNKNOWN_WEIGHTS, "no file that is known to be weights"),
    ],
)
def test_an_odd_choice_is_told(paths: str, finding: Finding, word: str) -> None:
    (warning,) = select_files(paths.split()).warnings
    assert warning.finding == finding
    assert word in warning.message


def test_an_ordinary_choice_is_told_nothing_about() -> None:
    assert select_files(["config.json", "model.safetensors", "pytorch_model.bin"]).warnings == ()


QUANTIZED = "README.md a-Q2_K.gguf a-Q4_K_M.gguf a-Q6_K.gguf a-Q8_0.gguf"
PIPELINE = (
    "model_index.json unet/config.json unet/m.safetensors unet/m.fp16.safetensors vae/m.safetensors "
    "vae/m.fp16.safetensors text_encoder/m.safetensors"
)
INDEXED = (
    "m.safetensors.index.json m.safetensors.index.fp16.json m-00001-of-00001.safetensors "
    "m.fp16-00001-of-00001.safetensors"
)
META = "config.json LICENSE model-00001-of-00001.safetensors original/consolidated.00.pth original/params.json"
VARIANTS = {
    "of quantizations the usual one": (QUANTIZED, "", "README.md a-Q4_K_M.gguf"),
    "another quantization that is asked for": (QUANTIZED, "q8_0", "README.md a-Q8_0.gguf"),
    "the smallest name of those that nobody prefers": ("a-Q2_K.gguf a-Q3_K_L.gguf", "", "a-Q2_K.gguf"),
    "a quantization in pieces": (
        "a-Q4_K_M-00001-of-00002.gguf a-Q4_K_M-00002-of-00002.gguf a-Q8_0.gguf",
        "",
        "a-Q4_K_M-00001-of-00002.gguf a-Q4_K_M-00002-of-00002.gguf",
    ),
    "quantizations in folders": (
        "README.md Q4_K_M/a-Q4_K_M-00001-of-00002.gguf Q4_K_M/a-Q4_K_M-00002-of-00002.gguf Q8_0/a-Q8_0.gguf",
        "",
        "README.md Q4_K_M/a-Q4_K_M-00001-of-00002.gguf Q4_K_M/a-Q4_K_M-00002-of-00002.gguf",
    ),
    "quantizations by folder alone": ("Q4_K_M/model.gguf Q8_0/model.gguf", "Q8_0", "Q8_0/model.gguf"),
    "dynamic quantizations": ("a-UD-Q4_K_XL.gguf a-UD-IQ1_S.gguf", "", "a-UD-Q4_K_XL.gguf"),
    "what sees, beside the one that is chosen": (
        "a-Q4_K_M.gguf a-F16.gguf mmproj-a-F16.gguf",
        "",
        "a-Q4_K_M.gguf mmproj-a-F16.gguf",
    ),
    "one of each of two models": (
        "a-1b-Q4_K_M.gguf a-1b-Q8_0.gguf a-4b-Q8_0.gguf",
        "",
        "a-1b-Q4_K_M.gguf a-4b-Q8_0.gguf",
    ),
    "GGUF without words for it is left alone": ("a.gguf b.gguf c.gguf", "", "a.gguf b.gguf c.gguf"),
    "GGUF beside safetensors when it is asked for": (
        "config.json model.safetensors a-Q4_K_M.gguf a-Q8_0.gguf",
        "Q4_K_M",
        "config.json a-Q4_K_M.gguf",
    ),
    "a precision, and the only one where there is no choice": (
        PIPELINE,
        "fp16",
        "model_index.json unet/config.json unet/m.fp16.safetensors vae/m.fp16.safetensors text_encoder/m.safetensors",
    ),
    "the full precision": (
        PIPELINE,
        "",
        "model_index.json unet/config.json unet/m.safetensors vae/m.safetensors text_encoder/m.safetensors",
    ),
    "the index of a precision goes with it": (
        INDEXED,
        "",
        "m.safetensors.index.json m-00001-of-00001.safetensors",
    ),
    "and the other index with the other": (
        INDEXED,
        "FP16",
        "m.safetensors.index.fp16.json m.fp16-00001-of-00001.safetensors",
    ),
    "the publisher's own format": (
        META,
        "original",
        "config.json LICENSE original/consolidated.00.pth original/params.json",
    ),
    "everybody's format": (META, "", "config.json LICENSE model-00001-of-00001.safetensors"),
}


@pytest.mark.parametrize(("paths", "variant", "expected"), VARIANTS.values(), ids=VARIANTS.keys())
def test_one_variant_is_fetched(paths: str, variant: str, expected: str) -> None:
    selection = select_files(paths.split(), read_choice({"variant": variant}))
    assert selection.paths == tuple(sorted(expected.split()))
    assert not (variant and any(told.finding is Finding.VARIANT_CHOSEN for told in selection.warnings))


@pytest.mark.parametrize(
    ("paths", "variant", "words"),
    [
        (QUANTIZED, "Q5_K_M", "is 'Q5_K_M', of which the source has no weights; there are Q2_K, Q4_K_M, Q6_K and Q8_0"),
        (PIPELINE, "bf16", "there are fp16"),
        ("config.json model.safetensors", "original", "the source has none"),
    ],
)
def test_a_variant_that_there_is_not_is_refused_with_those_that_there_are(paths: str, variant: str, words: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        select_files(paths.split(), Choice(variant=variant))
    assert refused.value.reason == "InvalidParameter"
    assert words in refused.value.message


def test_patterns_come_before_the_variant() -> None:
    assert select_files(QUANTIZED.split(), read_choice({"allowPatterns": "*.gguf", "variant": "Q8_0"})).paths == (
        "a-Q2_K.gguf",
        "a-Q4_K_M.gguf",
        "a-Q6_K.gguf",
        "a-Q8_0.gguf",
    )
    assert select_files(QUANTIZED.split(), read_choice({"ignorePatterns": "*Q4*"})).paths == (
        "README.md",
        "a-Q6_K.gguf",
    )


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


@given(st.text(min_size=1, max_size=300))
@example("[a]*?.bin")
@example(" leading and trailing ")
@example("a,b\nc")
@example("folder/")
@example("x" * 300)
@example("*")
def test_the_pattern_that_a_message_tells_leaves_the_file_out(path: str) -> None:
    choice = read_choice({"ignorePatterns": pattern_of(path)})
    assert len(choice.ignore) == 1
    assert not choice.wants(path)


def test_the_pattern_that_a_message_tells_leaves_nothing_else_out() -> None:
    choice = read_choice({"ignorePatterns": pattern_of("readme.md")})
    assert choice.wants("README.md")
    assert choice.wants("docs/readme.md")


@pytest.mark.parametrize(
    ("paths", "left"),
    [
        (["README.md", "readme.md"], ["README.md"]),
        (["a", "a/b"], ["a/b"]),
        (["a//b", "c"], ["c"]),
        (["../x", "c"], ["c"]),
        (["a\x00b", "c"], ["c"]),
        (["/abs", "c"], ["c"]),
        (["x" * 256, "c"], ["c"]),
    ],
)
def test_what_makes_a_listing_unusable_is_named_with_the_cure_which_helps(paths: list[str], left: list[str]) -> None:
    def manifest(parameters: dict[str, str]) -> list[str]:
        selected = select_files(paths, read_choice(parameters)).paths
        rows = [ManifestFile(path, 1, ChecksumAlgorithm.NONE, "") for path in selected]
        return [file.path for file in new_manifest("", rows).files]

    with pytest.raises(InvalidValue) as refused:
        manifest({})
    assert refused.value.reason == "InvalidListing"
    cure = re.search(r"set storage\.parameters\.ignorePatterns to '(.*?)'", refused.value.message)
    assert cure
    assert manifest({"ignorePatterns": cure[1]}) == left
