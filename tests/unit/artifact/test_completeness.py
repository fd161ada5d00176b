"""Whether a model is whole: one row per way in which models are published, mended, cut off and left out in part."""

import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.artifact.completeness import Damage, Evidence, Verdict, damage_of, judge
from libs.artifact.findings import MAX_FILES, MAX_MESSAGE, Finding

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
LLAMA: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
TOKENIZER = "tokenizer.json tokenizer_config.json special_tokens_map.json"
PIPELINE: dict[str, Any] = {
    "_class_name": "StableDiffusionXLPipeline",
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
    "force_zeros_for_empty_prompt": True,
}
PIPELINE_FILES = (
    "model_index.json scheduler/scheduler_config.json text_encoder/config.json text_encoder/model.safetensors "
    "tokenizer/vocab.json tokenizer/merges.txt unet/config.json vae/config.json "
    "vae/diffusion_pytorch_model.safetensors"
)


def shards(count: int, stem: str = "model", suffix: str = "safetensors", without: tuple[int, ...] = ()) -> list[str]:
    """Names of shards as transformers writes them."""
    numbers = [number for number in range(1, count + 1) if number not in without]
    return [f"{stem}-{number:05}-of-{count:05}.{suffix}" for number in numbers]


def listed(*names: str | list[str], empty: str = "") -> Verdict:
    """What the names and sizes of a listing tell."""
    paths = [path for name in names for path in (name.split() if isinstance(name, str) else name)]
    return judge(Evidence({path: 0 if path in empty.split() else 1000 for path in paths}))


def read(
    *names: str | list[str],
    documents: Mapping[str, Mapping[str, Any]] | None = None,
    indexes: Mapping[str, list[str]] | None = None,
    damaged: Mapping[str, Damage] | None = None,
    types: tuple[str, ...] = ("BF16",),
) -> Verdict:
    """What is known once everything was read; each safetensors file that is not damaged has a header."""
    paths = [path for name in names for path in (name.split() if isinstance(name, str) else name)]
    damaged = damaged or {}
    tensors = {path: types for path in paths if path.endswith(".safetensors") and path not in damaged}
    sound = [path for path in paths if path.endswith(".gguf") and path not in damaged]
    sizes = dict.fromkeys(paths, 1000)
    return judge(Evidence(sizes, indexes or {}, documents or {}, damaged, tensors, sound, read=True))


WHOLE = {
    "one file": read("config.json model.safetensors", TOKENIZER, documents={"config.json": LLAMA}),
    "shards that are all there": read("config.json", shards(3)),
    "shards and the index that names them": read(
        "config.json model.safetensors.index.json",
        shards(3),
        indexes={"model.safetensors.index.json": shards(3)},
    ),
    "an index that names fewer shards than their numbers promise": read(
        "config.json model.safetensors.index.json",
        shards(5, without=(3, 5)),
        indexes={"model.safetensors.index.json": shards(5, without=(3, 5))},
    ),
    "an index of files without numbers": read(
        "model.safetensors.index.json layers-00.safetensors layers-01.safetensors",
        indexes={"model.safetensors.index.json": ["layers-00.safetensors", "layers-01.safetensors"]},
    ),
    "pickles and their index": read(
        "config.json pytorch_model.bin.index.json",
        shards(2, "pytorch_model", "bin"),
        indexes={"pytorch_model.bin.index.json": shards(2, "pytorch_model", "bin")},
    ),
    "shards that are counted from zero": read("model-00000-of-00002.safetensors model-00001-of-00002.safetensors"),
    "shards that are counted from zero to the end": read([f"model-0000{n}-of-00002.safetensors" for n in range(3)]),
    "shards without leading zeros": read([f"model-{n}-of-61.safetensors" for n in range(1, 62)]),
    "slices of tensor parallelism": read([f"model{n}-mp8.safetensors" for n in range(8)]),
    "one GGUF file": read("model-Q4_K_M.gguf"),
    "a GGUF file in pieces": read(shards(3, "model-Q8_0", "gguf")),
    "GGUF with eyes": read("model-Q4_K_M.gguf mmproj-model-f16.gguf"),
    "an adapter": read("adapter_config.json adapter_model.safetensors", documents={"adapter_config.json": {"r": 8}}),
    "a pipeline": read(
        PIPELINE_FILES, "unet/diffusion_pytorch_model.safetensors", documents={"model_index.json": PIPELINE}
    ),
    "Mistral's own": read("params.json tekken.json consolidated.safetensors"),
    "embeddings with a dense layer of their own": read(
        "config.json model.safetensors modules.json 1_Pooling/config.json 2_Dense/model.safetensors",
        documents={"modules.json": {"[]": [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]}},
    ),
}

INCOMPLETE = {
    "shards 1 and 3 of 3": (listed("config.json", shards(3, without=(2,))), Finding.MISSING_SHARDS, "00002-of-00003"),
    "pickled shards": (listed(shards(3, "pytorch_model", "bin", (3,))), Finding.MISSING_SHARDS, "00003-of-00003.bin"),
    "GGUF in pieces": (listed(shards(2, "a-Q4_K_M", "gguf", (2,))), Finding.MISSING_SHARDS, "00002-of-00002.gguf"),
    "GGUF in pieces, in a folder of its own": (
        listed("README.md", [f"Q4/{name}" for name in shards(3, "a", "gguf", (1,))]),
        Finding.MISSING_SHARDS,
        "Q4/a-00001-of-00003.gguf",
    ),
    "variants in pieces": (listed(shards(2, "model.fp16", without=(1,))), Finding.MISSING_SHARDS, "fp16-00001-of"),
    "variants that are named behind": (
        listed("model-00001-of-00002.fp16.safetensors"),
        Finding.MISSING_SHARDS,
        "model-00002-of-00002.fp16.safetensors",
    ),
    "Meta's": (
        listed("params.json consolidated.00.pth consolidated.02.pth"),
        Finding.MISSING_SHARDS,
        "consolidated.01",
    ),
    "slices": (listed("model0-mp4.safetensors model3-mp4.safetensors"), Finding.MISSING_SHARDS, "model1-mp4"),
    "MLC's": (
        listed("mlc-chat-config.json params_shard_0.bin params_shard_2.bin"),
        Finding.MISSING_SHARDS,
        "shard_1.bin",
    ),
    "an empty file": (listed("config.json model.safetensors", empty="model.safetensors"), Finding.EMPTY_FILE, "model"),
    "an empty shard": (
        listed(shards(2), empty=shards(2)[1]),
        Finding.EMPTY_FILE,
        "00002-of-00002.safetensors is empty",
    ),
    "an index that names what is not there": (
        read("model.safetensors.index.json", shards(3)[:2], indexes={"model.safetensors.index.json": shards(3)}),
        Finding.MISSING_FILES,
        "model-00003-of-00003.safetensors is missing",
    ),
    "an index without any of its shards": (
        read("config.json model.safetensors.index.json", indexes={"model.safetensors.index.json": shards(2)}),
        Finding.NO_WEIGHTS,
        "names 2 files",
    ),
    "an index of pickles": (
        read("pytorch_model.bin.index.json a.bin", indexes={"pytorch_model.bin.index.json": ["a.bin", "b.bin"]}),
        Finding.MISSING_FILES,
        "b.bin",
    ),
    "a pointer": (
        read(
            "config.json model.safetensors", damaged={"model.safetensors": Damage(Finding.POINTER_FILE, "is a pointer")}
        ),
        Finding.POINTER_FILE,
        "model.safetensors is a pointer",
    ),
    "a pointer among shards": (
        read(shards(2), damaged={shards(2)[0]: Damage(Finding.POINTER_FILE, "is a pointer")}),
        Finding.POINTER_FILE,
        "model-00001-of-00002.safetensors is a pointer",
    ),
    "a pointer that the index names": (
        read(
            "model.safetensors.index.json a.safetensors",
            indexes={"model.safetensors.index.json": ["a.safetensors"]},
            damaged={"a.safetensors": Damage(Finding.TRUNCATED_FILE, "is cut off")},
        ),
        Finding.TRUNCATED_FILE,
        "a.safetensors is cut off",
    ),
    "nothing but a description": (
        read("config.json README.md", TOKENIZER, documents={"config.json": LLAMA}),
        Finding.NO_WEIGHTS,
        "no weights",
    ),
    "an adapter without weights": (
        read("adapter_config.json README.md", documents={"adapter_config.json": {"peft_type": "LORA"}}),
        Finding.NO_WEIGHTS,
        "no weights",
    ),
    "a pipeline without a folder": (
        read(
            PIPELINE_FILES.replace("vae/config.json vae/diffusion_pytorch_model.safetensors", ""),
            "unet/diffusion_pytorch_model.safetensors",
            documents={"model_index.json": PIPELINE},
        ),
        Finding.MISSING_PART,
        "vae/ is missing, which model_index.json names (AutoencoderKL)",
    ),
    "a pipeline with a folder without weights": (
        read(PIPELINE_FILES, documents={"model_index.json": PIPELINE}),
        Finding.NO_WEIGHTS,
        "unet/ has no weights",
    ),
    "a pipeline with a shard missing": (
        read(
            PIPELINE_FILES,
            "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
            documents={"model_index.json": PIPELINE},
        ),
        Finding.MISSING_SHARDS,
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    ),
    "an engine of two ranks": (
        read(
            "config.json rank0.engine", documents={"config.json": {"pretrained_config": {"mapping": {"world_size": 2}}}}
        ),
        Finding.MISSING_SHARDS,
        "rank1.engine is missing: config.json describes 2 ranks",
    ),
    "a checkpoint of two ranks": (
        read(
            "config.json rank1.safetensors",
            documents={"config.json": {"architecture": "LlamaForCausalLM", "mapping": {"world_size": 2}}},
        ),
        Finding.MISSING_SHARDS,
        "rank0.safetensors",
    ),
    "ONNX whose configuration names another file": (
        read(
            "genai_config.json embedding.onnx",
            documents={
                "genai_config.json": {
                    "model": {"decoder": {"filename": "model.onnx"}, "embedding": {"filename": "embedding.onnx"}}
                }
            },
        ),
        Finding.MISSING_FILES,
        "model.onnx is missing, which genai_config.json names",
    ),
    "weights that are not packed although the configuration says so": (
        read(
            "config.json model.safetensors", documents={"config.json": {"quantization_config": {"quant_method": "awq"}}}
        ),
        Finding.OTHER_FORMAT,
        "packed by awq",
    ),
    "a layer of its own that is cut off": (
        read(
            "config.json model.safetensors modules.json 2_Dense/model.safetensors",
            documents={"modules.json": {"[]": [{"path": "2_Dense"}]}},
            damaged={"2_Dense/model.safetensors": Damage(Finding.TRUNCATED_FILE, "is cut off")},
        ),
        Finding.TRUNCATED_FILE,
        "2_Dense/model.safetensors",
    ),
}

UNKNOWN = {
    "an ordinary listing": listed("config.json model.safetensors", TOKENIZER),
    "an index that nobody has read explains a gap": listed("model.safetensors.index.json", shards(3, without=(2,))),
    "an index of another precision that nobody has read": listed(
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
        "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
    ),
    "an index that leads out of its folder": read(
        "model.safetensors.index.json",
        shards(3, without=(2,)),
        indexes={"model.safetensors.index.json": ["../model-00001-of-00003.safetensors"]},
    ),
    "a pickle": read("config.json pytorch_model.bin", documents={"config.json": {"architectures": ["BertModel"]}}),
    "ONNX": read("config.json model.onnx model.onnx_data", documents={"config.json": {"architectures": ["BertModel"]}}),
    "an engine": read("config.json rank0.engine", documents={"config.json": {"pretrained_config": {}}}),
    "a tokenizer alone": read("README.md", TOKENIZER),
    "a tokenizer with a configuration": read(
        "config.json", TOKENIZER, documents={"config.json": {"model_type": "gpt2"}}
    ),
    "code that brings its weights": read(
        "config.json modeling_x.py",
        documents={"config.json": {"architectures": ["XModel"], "auto_map": {"AutoModel": "modeling_x.XModel"}}},
    ),
    "weights of a kind that nobody knows": read("config.json weights.xyz", documents={"config.json": LLAMA}),
    "a folder of notes": read("README.md notes/a.txt images/b.png"),
    "a whole file beside what an upload has left": listed("model.safetensors", shards(3, without=(2,))),
    "a checkpoint of the training that is not whole": read(
        "config.json pytorch_model.bin",
        [f"checkpoint-500/{name}" for name in shards(2, without=(1,))],
        documents={"config.json": LLAMA},
    ),
    "a variant that is not whole beside one that is": listed(
        [f"Q4/{name}" for name in shards(2, "a-Q4", "gguf")], [f"Q8/{name}" for name in shards(2, "a-Q8", "gguf", (2,))]
    ),
    "shards of a data set": listed("README.md data/train-00000-of-00005.parquet"),
    "numbers that are no shards": listed("epoch-12-of-5.pt model_v1-of-2.txt pytorch_model.bin"),
    "a pipeline that nobody has read": listed(
        PIPELINE_FILES, "unet/diffusion_pytorch_model-00001-of-00002.safetensors"
    ),
    "a pipeline without what it is loaded without": read(
        PIPELINE_FILES,
        "unet/diffusion_pytorch_model.safetensors",
        documents={
            "model_index.json": {**PIPELINE, "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
        },
    ),
    "a pipeline in one file": read(
        "model_index.json sd_xl_base_1.0.safetensors", documents={"model_index.json": PIPELINE}
    ),
    "nothing at all": read(""),
}


@pytest.mark.parametrize("verdict", WHOLE.values(), ids=WHOLE.keys())
def test_a_model_is_whole_when_all_is_there_that_its_files_promise(verdict: Verdict) -> None:
    assert (verdict.whole, verdict.defects) == (True, ())


@pytest.mark.parametrize(("verdict", "finding", "words"), INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_a_model_is_incomplete_when_a_file_proves_it(verdict: Verdict, finding: Finding, words: str) -> None:
    assert verdict.whole is False
    assert {defect.finding for defect in verdict.defects} == {finding}
    assert words in verdict.message


@pytest.mark.parametrize("verdict", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_nothing_is_said_of_a_model_without_proof(verdict: Verdict) -> None:
    assert (verdict.whole, verdict.defects) == (None, ())


def test_what_would_decide_is_named() -> None:
    verdict = listed("model.safetensors.index.json config.json", shards(3, without=(2,)))
    assert verdict.undecided == ("model.safetensors.index.json",)
    assert listed("model.safetensors.index.json config.json", shards(3)).undecided == ()
    pipeline = listed(PIPELINE_FILES, "unet/diffusion_pytorch_model-00001-of-00002.safetensors")
    assert pipeline.undecided == ("model_index.json",)


def test_shards_that_the_index_does_not_name_are_told_and_prove_nothing() -> None:
    names = shards(3)
    verdict = read("model.safetensors.index.json", names, indexes={"model.safetensors.index.json": names[:2]})
    assert verdict.whole is True
    assert [doubt.finding for doubt in verdict.doubts] == [Finding.EXTRA_SHARDS]


@pytest.mark.parametrize(
    ("names", "config", "expected"),
    [
        ("config.json model.safetensors", LLAMA, True),
        (f"config.json model.safetensors {TOKENIZER}", LLAMA, False),
        ("config.json model.safetensors tekken.json", LLAMA, False),
        ("config.json model.safetensors tokenization_x.py", LLAMA, False),
        ("config.json model.safetensors qwen.tiktoken", LLAMA, False),
        ("config.json model.safetensors", {"architectures": ["ViTForImageClassification"]}, False),
        ("config.json model.safetensors", {"architectures": ["WhisperForConditionalGeneration"]}, False),
        ("config.json model.safetensors", {"architectures": ["BertModel"]}, False),
        ("config.json model-Q4_K_M.gguf", LLAMA, False),
        ("adapter_config.json config.json adapter_model.safetensors", LLAMA, False),
    ],
)
def test_a_tokenizer_is_missed_only_where_text_is_written(names: str, config: dict[str, Any], expected: bool) -> None:
    verdict = read(names, documents={"config.json": config})
    assert verdict.whole is True
    assert [doubt.finding for doubt in verdict.doubts] == [Finding.NO_TOKENIZER] * expected


@pytest.mark.parametrize(
    ("path", "size", "beginning", "finding"),
    [
        ("model.safetensors", 135, POINTER, Finding.POINTER_FILE),
        ("pytorch_model.bin", 135, POINTER, Finding.POINTER_FILE),
        ("a.gguf", 135, POINTER[:8], Finding.POINTER_FILE),
        ("model.safetensors", 5000, b"<!DOCTYPE html><html>", Finding.ERROR_PAGE),
        ("model.safetensors", 5000, b"\n <html><body>", Finding.ERROR_PAGE),
        ("model.onnx", 300, b"<?xml version='1.0'?><Error>", Finding.ERROR_PAGE),
        ("model.safetensors", 0, b"", Finding.EMPTY_FILE),
        ("model.safetensors", 5000, b"\x08\x00\x00\x00\x00\x00\x00\x00{}", None),
        ("pytorch_model.bin", 5000, b"PK\x03\x04", None),
        ("version.bin", 5000, b"version 2 of the weights", None),
    ],
)
def test_files_that_stand_for_others_are_known(path: str, size: int, beginning: bytes, finding: Finding | None) -> None:
    damage = damage_of(path, size, beginning)
    assert (damage and damage.finding) == finding


def test_what_is_said_of_thousands_of_files_stays_short() -> None:
    verdict = listed(shards(9000, without=tuple(range(2, 9000))))
    (defect,) = verdict.defects
    assert len(defect.files) == MAX_FILES
    assert "and 8,995 more are missing: there are 2 of 9,000 shards" in defect.message
    long = "x" * 3000
    (defect,) = listed([f"{long}-1-of-2.safetensors"]).defects
    assert len(defect.message) <= MAX_MESSAGE
    assert len(listed([f"s{n}-00001-of-00002.safetensors" for n in range(500)]).defects) <= 8


@given(st.lists(st.text(alphabet="model-0123of./safetnsrbiguq_", max_size=40), max_size=20), st.booleans())
def test_any_names_are_judged(names: list[str], everything: bool) -> None:
    sizes = {name: len(name) for name in names}
    judge(Evidence(sizes, read=everything))


@pytest.mark.parametrize(
    "names",
    [
        [f"f{number}/model-1-of-9999.safetensors" for number in range(20_000)],
        [f"s{number}-1-of-9999.bin" for number in range(20_000)],
        [f"{number}.safetensors.index.json" for number in range(20_000)] + ["a-1-of-9.safetensors"],
        [f"f{number}/model.safetensors.index.json" for number in range(20_000)],
    ],
    ids=["folders", "sets", "indexes", "folders with an index"],
)
def test_names_that_were_made_to_cost_time_are_judged_in_little(names: list[str]) -> None:
    sizes = dict.fromkeys(names, 9)
    indexes = {name: ["a-1-of-9.safetensors", "b.safetensors"] for name in names if name.endswith(".json")}
    pipeline = {f"f{number}": ["diffusers", "AutoencoderKL"] for number in range(20_000)}
    started = time.process_time()
    for documents in ({}, {"model_index.json": pipeline}):
        judge(Evidence({**sizes, **dict.fromkeys(documents, 9)}, indexes, documents, read=True))
        judge(Evidence(sizes))
    assert time.process_time() - started < 10
