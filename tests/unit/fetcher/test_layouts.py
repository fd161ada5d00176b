"""Repositories as people publish them: what is chosen of them, and that none of them is called incomplete."""

import re
from collections.abc import Iterator

import pytest

from libs.artifact.completeness import Evidence, Verdict, is_index, judge
from services.fetcher.sources.selection import Choice, select_files

SMALL = ".gitattributes README.md LICENSE config.json generation_config.json"
TOKENIZER = "tokenizer.json tokenizer_config.json special_tokens_map.json"


def shards(count: int, form: str, first: int = 1) -> str:
    """Names of shards; form has the number and then the count."""
    return " ".join(form.format(number, count) for number in range(first, count + first))


LAYOUTS = {
    "Llama 3": (
        (
            f"{SMALL} {TOKENIZER} USE_POLICY.md "
            f"{shards(4, 'model-{:05}-of-{:05}.safetensors')} model.safetensors.index.json "
            "original/consolidated.00.pth original/params.json original/tokenizer.model"
        ),
        "model-00004-of-00004.safetensors model.safetensors.index.json",
    ),
    "Llama 2 as Meta publishes it": (
        f"LICENSE.txt README.md checklist.chk params.json tokenizer.model {shards(8, 'consolidated.{:02}.pth', 0)}",
        "consolidated.07.pth tokenizer.model",
    ),
    "Mistral with both": (
        (
            f"{SMALL} {TOKENIZER} params.json tokenizer.model tokenizer.model.v3 consolidated.safetensors "
            f"{shards(3, 'model-{:05}-of-{:05}.safetensors')} model.safetensors.index.json"
        ),
        "model-00003-of-00003.safetensors",
    ),
    "Mistral Large": (
        (
            f"{SMALL} {TOKENIZER} params.json {shards(51, 'consolidated-{:05}-of-{:05}.safetensors')} "
            f"consolidated.safetensors.index.json {shards(51, 'model-{:05}-of-{:05}.safetensors')} "
            "model.safetensors.index.json"
        ),
        "model-00051-of-00051.safetensors",
    ),
    "Mixtral": (
        (
            f"{SMALL} {TOKENIZER} {shards(8, 'consolidated.{:02}.pt', 0)} "
            f"{shards(19, 'model-{:05}-of-{:05}.safetensors')} model.safetensors.index.json"
        ),
        "model-00019-of-00019.safetensors",
    ),
    "DeepSeek V3": (
        (
            f"{SMALL} {TOKENIZER} modeling_deepseek.py {shards(163, 'model-{:05}-of-{:06}.safetensors')} "
            "model.safetensors.index.json inference/model.py figures/benchmark.png"
        ),
        "model-00163-of-000163.safetensors",
    ),
    "Kimi K2": (
        (
            f"{SMALL} tiktoken.model tokenization_kimi.py {shards(61, 'model-{}-of-{}.safetensors')} "
            "model.safetensors.index.json"
        ),
        "model-61-of-61.safetensors",
    ),
    "MiniMax": (
        f"{SMALL} {TOKENIZER} {shards(413, 'model-{:05}-of-{:05}.safetensors', 0)} model.safetensors.index.json",
        "model-00412-of-00413.safetensors",
    ),
    "BLOOM": (
        (
            f"{SMALL} {TOKENIZER} {shards(72, 'model_{:05}-of-{:05}.safetensors')} model.safetensors.index.json "
            f"{shards(72, 'pytorch_model_{:05}-of-{:05}.bin')} pytorch_model.bin.index.json"
        ),
        "model_00072-of-00072.safetensors",
    ),
    "OPT in pickles": (
        (
            f"{SMALL} vocab.json merges.txt {shards(14, 'pytorch_model-{:05}-of-{:05}.bin')} "
            "pytorch_model.bin.index.json "
            f"{shards(7, 'flax_model-{:05}-of-{:05}.msgpack')} flax_model.msgpack.index.json"
        ),
        "pytorch_model-00014-of-00014.bin",
    ),
    "Whisper": (
        (
            f"{SMALL} {TOKENIZER} model.safetensors pytorch_model.bin flax_model.msgpack "
            f"{shards(2, 'model.fp32-{:05}-of-{:05}.safetensors')} model.safetensors.index.fp32.json "
            f"{shards(2, 'pytorch_model.fp32-{:05}-of-{:05}.bin')} pytorch_model.bin.index.fp32.json"
        ),
        "model.safetensors",
    ),
    "SDXL": (
        (
            "README.md model_index.json sd_xl_base_1.0.safetensors sd_xl_base_1.0_0.9vae.safetensors "
            "scheduler/scheduler_config.json text_encoder/config.json text_encoder/model.safetensors "
            "text_encoder/model.fp16.safetensors text_encoder/model.onnx text_encoder/flax_model.msgpack "
            "tokenizer/vocab.json tokenizer/merges.txt unet/config.json unet/diffusion_pytorch_model.safetensors "
            "unet/diffusion_pytorch_model.fp16.safetensors vae/config.json vae/diffusion_pytorch_model.safetensors "
            "vae_1_0/config.json vae_1_0/diffusion_pytorch_model.safetensors vae_decoder/model.onnx"
        ),
        "unet/diffusion_pytorch_model.safetensors",
    ),
    "FLUX": (
        (
            "README.md model_index.json flux1-dev.safetensors ae.safetensors scheduler/scheduler_config.json "
            "text_encoder/config.json text_encoder/model.safetensors text_encoder_2/config.json "
            f"{shards(2, 'text_encoder_2/model-{:05}-of-{:05}.safetensors')} "
            "text_encoder_2/model.safetensors.index.json "
            "tokenizer/vocab.json tokenizer_2/spiece.model transformer/config.json "
            f"{shards(3, 'transformer/diffusion_pytorch_model-{:05}-of-{:05}.safetensors')} "
            "transformer/diffusion_pytorch_model.safetensors.index.json vae/config.json "
            "vae/diffusion_pytorch_model.safetensors"
        ),
        "transformer/diffusion_pytorch_model-00003-of-00003.safetensors",
    ),
    "Stable Diffusion 3 in single files": (
        (
            "README.md LICENSE sd3_medium.safetensors sd3_medium_incl_clips.safetensors "
            "text_encoders/clip_g.safetensors "
            "text_encoders/t5xxl_fp16.safetensors comfy_example_workflows/basic.json"
        ),
        "sd3_medium.safetensors",
    ),
    "Wan": (
        (
            f"README.md config.json {shards(7, 'diffusion_pytorch_model-{:05}-of-{:05}.safetensors')} "
            "diffusion_pytorch_model.safetensors.index.json Wan2.1_VAE.pth google/umt5-xxl/spiece.model"
        ),
        "diffusion_pytorch_model-00007-of-00007.safetensors",
    ),
    "sentence-transformers": (
        (
            f"{SMALL} {TOKENIZER} vocab.txt modules.json sentence_bert_config.json 1_Pooling/config.json "
            "model.safetensors "
            "pytorch_model.bin rust_model.ot tf_model.h5 onnx/model.onnx onnx/model_O1.onnx "
            "onnx/model_qint8_avx512.onnx "
            "openvino/openvino_model.bin openvino/openvino_model.xml train_script.py"
        ),
        "model.safetensors 1_Pooling/config.json",
    ),
    "GGUF in many quantizations": (
        (
            "README.md imatrix.dat a-IQ2_M.gguf a-Q2_K.gguf a-Q3_K_XL.gguf a-Q4_K_M.gguf a-Q6_K.gguf "
            f"{shards(2, 'a-Q8_0/a-Q8_0-{:05}-of-{:05}.gguf')} {shards(4, 'a-bf16/a-bf16-{:05}-of-{:05}.gguf')}"
        ),
        "a-Q4_K_M.gguf",
    ),
    "GGUF with a folder for each": (
        (
            f"README.md config.json {shards(3, 'R1-UD-IQ1_S/R1-UD-IQ1_S-{:05}-of-{:05}.gguf')} "
            f"{shards(9, 'R1-Q4_K_M/R1-Q4_K_M-{:05}-of-{:05}.gguf')} "
            f"{shards(15, 'R1-Q8_0/R1-Q8_0-{:05}-of-{:05}.gguf')}"
        ),
        "R1-Q4_K_M/R1-Q4_K_M-00009-of-00009.gguf",
    ),
    "GGUF with eyes": ("README.md a-it-Q4_K_M.gguf a-it-Q8_0.gguf mmproj-F16.gguf mmproj-BF16.gguf", "mmproj-F16.gguf"),
    "an adapter with its checkpoints": (
        (
            "README.md adapter_config.json adapter_model.safetensors tokenizer.json training_args.bin "
            "checkpoint-100/adapter_model.safetensors checkpoint-100/optimizer.pt checkpoint-100/rng_state.pth"
        ),
        "adapter_model.safetensors",
    ),
    "ONNX genai": (
        (
            "README.md config.json cpu/int4/genai_config.json cpu/int4/model.onnx cpu/int4/model.onnx.data "
            "cpu/int4/tokenizer.json cuda/fp16/genai_config.json cuda/fp16/model.onnx cuda/fp16/model.onnx.data"
        ),
        "cpu/int4/model.onnx.data",
    ),
    "ONNX for browsers": (
        f"{SMALL} {TOKENIZER} onnx/model.onnx onnx/model_fp16.onnx onnx/model_q4.onnx onnx/model_quantized.onnx",
        "onnx/model.onnx",
    ),
    "a tokenizer": (f"README.md .gitattributes {TOKENIZER} vocab.json merges.txt", "tokenizer.json"),
    "an engine of TensorRT-LLM": ("config.json rank0.engine rank1.engine tokenizer.json", "rank1.engine"),
    "NeMo": ("README.md canary-1b.nemo", "canary-1b.nemo"),
    "MLC": (
        f"README.md mlc-chat-config.json ndarray-cache.json tokenizer.json {shards(38, 'params_shard_{}.bin', 0)}",
        "params_shard_37.bin",
    ),
    "OpenVINO": (
        "README.md config.json openvino_model.xml openvino_model.bin openvino_tokenizer.xml openvino_tokenizer.bin",
        "openvino_model.bin openvino_model.xml",
    ),
    "GPTQ": (f"{SMALL} {TOKENIZER} quantize_config.json gptq_model-4bit-128g.safetensors", "quantize_config.json"),
    "CTranslate2": ("README.md config.json model.bin vocabulary.json tokenizer.json", "model.bin"),
    "whisper.cpp": ("README.md ggml-base.bin ggml-large-v3.bin ggml-large-v3-q5_0.bin", "ggml-large-v3.bin"),
    "a voice": ("README.md config.json kokoro-v1_0.pth voices/af.pt voices/am.pt", "voices/af.pt"),
    "timm": ("README.md config.json model.safetensors pytorch_model.bin", "model.safetensors"),
    "scikit-learn": ("README.md config.json model.joblib", "model.joblib"),
    "DeepSeek's own slices": (
        f"config.json tokenizer.json {shards(16, 'model{}-mp{}.safetensors', 0)}",
        "model15-mp16.safetensors",
    ),
}


def judged(paths: tuple[str, ...], read: bool) -> Verdict:
    """What is said of whole files, each index of which names the numbered files beside it."""
    indexes = {path: list(_named(path, paths)) for path in paths if is_index(path)} if read else {}
    tensors = {path: {"BF16"} for path in paths if path.endswith(".safetensors")} if read else {}
    config = (
        {"config.json": {"architectures": ["XForConditionalGeneration"]}} if read and "config.json" in paths else {}
    )
    sound = [path for path in paths if path.endswith(".gguf")]
    return judge(Evidence(dict.fromkeys(paths, 1000), indexes, config, {}, tensors, sound, read))


def _named(index: str, paths: tuple[str, ...]) -> Iterator[str]:
    folder, _, name = index.rpartition("/")
    match = re.fullmatch(r"(.+)\.(safetensors|bin)\.index\.json", name)
    assert match, f"{index} was to be left out"
    for path in paths:
        inside, _, shard = path.rpartition("/")
        if inside == folder and re.fullmatch(rf"{match[1]}[-_]\d+-of-\d+\.{match[2]}", shard):
            yield shard


@pytest.mark.parametrize(("names", "expected"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_repository_as_it_is_published_is_never_called_incomplete(names: str, expected: str) -> None:
    selection = select_files(names.split())
    assert set(expected.split()) <= set(selection.paths)
    for read in (False, True):
        verdict = judged(selection.paths, read)
        assert (verdict.whole, verdict.defects, verdict.undecided) in ((None, (), ()), (True, (), ()))


@pytest.mark.parametrize("names", [names for names, _ in LAYOUTS.values()], ids=LAYOUTS.keys())
def test_nor_is_all_of_it(names: str) -> None:
    everything = select_files(names.split(), Choice(allow=("*",))).paths
    assert judged(everything, read=False).defects == ()


@pytest.mark.parametrize("names", [names for names, _ in LAYOUTS.values()], ids=LAYOUTS.keys())
def test_each_shard_that_is_taken_away_is_missed(names: str) -> None:
    paths = select_files(names.split()).paths
    numbered = [path for path in paths if re.search(r"\d+-of-\d+|consolidated\.\d|params_shard|-mp\d", path)]
    # Of files that do not say how many there are, the last is not missed; and one that all the others are told by.
    for path in numbered[1:-1][:3]:
        verdict = judged(tuple(each for each in paths if each != path), read=False)
        assert verdict.whole is False or verdict.undecided, path
