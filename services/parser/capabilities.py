"""What a model can do, by its class, its sections and its sidecars; and the APIs that such models are served by.

Decides on words of two closed lists, those of the CRD: the seed's and OME's spelling, and where they have none, the
Hugging Face task in the same spelling.
"""

import re

from services.parser.intake import Directory
from services.parser.network import Family, labels
from services.parser.section import Section

TEXT_GENERATION = "TEXT_GENERATION"
IMAGE_TEXT_TO_TEXT = "IMAGE_TEXT_TO_TEXT"
AUDIO_TEXT_TO_TEXT = "AUDIO_TEXT_TO_TEXT"
SPEECH_TO_TEXT = "SPEECH_TO_TEXT"
TEXT_TO_SPEECH = "TEXT_TO_SPEECH"
AUDIO = "AUDIO"
EMBEDDING = "EMBEDDING"
RERANK = "RERANK"
REWARD = "REWARD"
CLASSIFICATION = "CLASSIFICATION"
VISION = "VISION"
FILL_MASK = "FILL_MASK"
DRAFT_MODEL = "DRAFT_MODEL"
TEXT_TO_IMAGE = "TEXT_TO_IMAGE"
IMAGE_TEXT_TO_IMAGE = "IMAGE_TEXT_TO_IMAGE"
TEXT_TO_VIDEO = "TEXT_TO_VIDEO"
IMAGE_TEXT_TO_VIDEO = "IMAGE_TEXT_TO_VIDEO"

_APIS = {
    TEXT_GENERATION: ("OPENAI_V1_CHAT_COMPLETIONS", "OPENAI_V1_RESPONSES"),
    IMAGE_TEXT_TO_TEXT: ("OPENAI_V1_CHAT_COMPLETIONS",),
    AUDIO_TEXT_TO_TEXT: ("OPENAI_V1_CHAT_COMPLETIONS",),
    EMBEDDING: ("OPENAI_V1_EMBEDDINGS",),
    TEXT_TO_IMAGE: ("OPENAI_V1_IMAGES_GENERATIONS",),
    IMAGE_TEXT_TO_IMAGE: ("OPENAI_V1_IMAGES_EDITS",),
    TEXT_TO_SPEECH: ("OPENAI_V1_AUDIO_SPEECH",),
    SPEECH_TO_TEXT: ("OPENAI_V1_AUDIO_TRANSCRIPTIONS",),
}
_VISION_SECTIONS = ("vision_config", "vision_tower_config", "visual", "vit_config", "vision_encoder_config")
_VISION_WORDS = ("mm_vision_tower", "vision_tower", "img_processor", "mm_projector_type", "vision_tower_cfg")
_AUDIO_SECTIONS = ("audio_config", "audio_processor", "speech_config", "audio_tower_config")
_EDITS = re.compile(r"Inpaint|Img2Img|Edit|Upscale|Kontext|Fill|Control|Redux")
_VIDEO = re.compile(r"Video|Wan|Mochi|CogVideo|LTX|AnimateDiff|EasyAnimate|I2V|T2V", re.IGNORECASE)
# Encoders whose bare class yields vectors of text; a bare decoder is one when its files say so in another way.
_ENCODERS = re.compile(r"bert|mpnet|electra|nomic|jina|gte|^new$|clip_text_model|t5|albert|ernie$", re.IGNORECASE)


def capabilities_of(c: Section, family: Family | None, directory: Directory) -> list[str]:
    """The capabilities of a model that is no pipeline."""
    architecture = c.architecture
    if re.search(r"Eagle\d?|Draft|Medusa|MTPModel", architecture) or c.section("dflash_config"):
        return [DRAFT_MODEL]
    if family is not None and family.capabilities:
        return list(family.capabilities)
    if "Reward" in architecture:
        return [REWARD]
    if "TTS" in architecture or "TextToSpeech" in architecture or c.section("acoustic_tokenizer_config"):
        return [TEXT_TO_SPEECH]
    if architecture.endswith("ForSequenceClassification"):
        return [_classifies(c, directory)]
    if _has_sentence_modules(directory):
        return [EMBEDDING]
    if architecture.endswith("ForMaskedLM"):
        return [FILL_MASK]
    if architecture.endswith(("ForTokenClassification", "ForQuestionAnswering", "ForPreTraining")):
        return [FILL_MASK if architecture.endswith("ForPreTraining") else CLASSIFICATION]
    if re.search(r"Segmentation|Detection|ImageClassification|DepthEstimation", architecture):
        return [VISION]
    if architecture.endswith("Model") and _embeds(c):
        return [EMBEDDING]
    return [TEXT_GENERATION, *_senses(c)]


def pipeline_capabilities(class_name: str) -> list[str]:
    """The capabilities of a diffusion pipeline or of one of its transformers, by its class."""
    edits = bool(_EDITS.search(class_name))
    if _VIDEO.search(class_name):
        return [IMAGE_TEXT_TO_VIDEO if "ImageToVideo" in class_name else TEXT_TO_VIDEO]
    if re.search(r"Audio|Music|Speech", class_name):
        return [AUDIO]
    return [IMAGE_TEXT_TO_IMAGE] if edits else [TEXT_TO_IMAGE]


def api_capabilities(capabilities: list[str]) -> list[str]:
    """The APIs that models of such capabilities are served by."""
    return list(dict.fromkeys(api for capability in capabilities for api in _APIS.get(capability, ())))


def _classifies(c: Section, directory: Directory) -> str:
    if labels(c) != 1:
        return CLASSIFICATION
    # One score: of a pair, when the model is an encoder or says so, else of an answer.
    if _ENCODERS.search(c.model_type) or c.section("sentence_transformers") or _has_sentence_modules(directory):
        return RERANK
    return REWARD


def _has_sentence_modules(directory: Directory) -> bool:
    return any(path in directory.documents for path in ("modules.json", "config_sentence_transformers.json"))


def _embeds(c: Section) -> bool:
    if _ENCODERS.search(c.model_type) or _ENCODERS.search(c.architecture):
        return True
    # A decoder saved without its head was made for embeddings, unless it keeps its cache for generating.
    return not c.flag("use_cache", default=True) and "Chat" not in c.architecture


def _senses(c: Section) -> list[str]:
    senses = []
    inner = c.section("thinker_config")
    sees = any(s.section(name) for s in (c, inner) for name in _VISION_SECTIONS) or any(w in c for w in _VISION_WORDS)
    # Phi-4 multimodal describes its embeddings of pictures and sounds together.
    embeddings = c.section("embd_layer")
    sees = sees or bool(embeddings.section("image_embd_layer"))
    if sees or re.search(r"VL|Vision|Image|MiniCPMV|Llava", c.architecture):
        senses.append(IMAGE_TEXT_TO_TEXT)
    if any(s.section(name) for s in (c, inner) for name in _AUDIO_SECTIONS) or "Audio" in c.architecture:
        senses.append(AUDIO_TEXT_TO_TEXT)
    return senses
