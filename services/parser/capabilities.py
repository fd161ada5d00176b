"""What a model can do, by its class, its sections and its sidecars; and the APIs that such models are served by.

Decides on words of two closed lists, those of the CRD: the seed's and OME's spelling, and where they have none, the
Hugging Face task in the same spelling. What nothing tells stays empty, since specs are filled with it.
"""

import re
from collections.abc import Iterable

from services.parser.context import text_sections
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
_EDITS = re.compile(r"Inpaint|Img2Img|ImageToImage|Edit|Upscale|Kontext|Fill|Control|Redux|Instruct|Depth2Img")
_VIDEO = re.compile(
    r"Video|Wan|Mochi|CogVideo|LTX|Animat|I2V|T2V|Img2Vid|I2VGen|SkyReels|Allegro|Latte|Lucy|Hunyuan3?Video|3DModel"
    r"|AutoencoderKL(Temporal|Magvit|Cosmos)|Cosmos",
    re.IGNORECASE,
)
_STARTS_FROM_IMAGE = re.compile(r"ImageToVideo|I2V|Img2Vid|StableVideoDiffusion|Image2Video", re.IGNORECASE)
_SOUND = re.compile(r"Audio|Music|Speech|DanceDiffusion|Oobleck", re.IGNORECASE)
_PICTURE = re.compile(
    r"Pipeline$|Transformer2DModel|TransformerModel$|UNet2D|Unet2D|StableCascade|PixArt|Transformer2D|UViT|DiT|MMDiT"
)
# Parts that by themselves draw nothing.
_PARTS = re.compile(r"^(Autoencoder|VQ|Consistency|ControlNet|MultiControlNet|T2IAdapter|MotionAdapter|Paella)|VAE")
# Transformers that look at pictures and have words for nothing.
_EYES = re.compile(
    r"^(Dino|DINO|ViT|Vit|Sam\d?|SAM|Edgetam|EdgeTam|Beit|Deit|DeiT|Swin|ConvNext|ResNet|RegNet|Segformer|Mask2?Former|"
    r"MaskFormer|Detr|Hiera|EfficientNet|MobileViT|MobileNet|PoolFormer|Dpt|DPT|DepthAnything|DepthPro|YolosModel|IJepa|"
    r"VJEPA|Eomt|RTDetr|RtDetr|DFine|SuperPoint|SuperGlue|LightGlue|TimmWrapper|Aimv2Vision|MLCD|Siglip2?Vision|"
    r"CLIPVision|InternVision|Pixtral)"
)
_VISION_TOWER = re.compile(
    r"(Vision|Image|Visual|Video)(Model|Encoder|Transformer|Tower|Backbone|Classifier|TransformerPretrainedModel)$"
)
# Two encoders whose vectors meet in one space.
_MEETING = re.compile(r"(CLIP|Clip2?|Siglip2?|Align|OwlViT|Owlv2|GroupViT|Aimv2|Flava|Clap|CLAP|VipLlava|Blip)Model$")
_HEARS = re.compile(
    r"ForCTC$|ForSpeechSeq2Seq$|ForRNNT$|ForTDT$|SpeechToText|Speech2Text|SpeechEncoderDecoder|Parakeet|Canary|Whisper"
    r"|ASR|Asr[A-Z]|Moonshine|Conformer|Paraformer|SenseVoice"
)
_SEES = re.compile(
    r"Segmentation|Detection|ImageClassification|DepthEstimation|MaskGeneration|KeypointMatching|KeypointDetection|"
    r"ImageMatting|PoseEstimation|VideoClassification|MaskedImageModeling|ImageToImage|SuperResolution"
)
_WRITES = re.compile(
    r"(ForCausalLM|LMHeadModel|ForConditionalGeneration|ForVision2Seq|ForImageTextToText|CausalLM|CausalLM\w{0,12}|"
    r"ForSeq2SeqLM|ForQuestionAnswering|ForGeneration)$"
)
# Encoders whose bare class yields vectors of text; a bare decoder is one when its files say so in another way.
_ENCODERS = re.compile(r"bert|mpnet|electra|nomic|jina|gte|^new$|clip_text_model|t5|albert|ernie$", re.IGNORECASE)


def capabilities_of(c: Section, family: Family | None, directory: Directory) -> list[str]:
    """The capabilities of a model that is no pipeline; none when neither class, page, sections nor sidecars tell."""
    architecture = c.architecture
    if re.search(r"Eagle\d?(?!_VL|VL|\d?_?[A-Z])|Draft|Medusa|MTPModel", architecture) or c.section("dflash_config"):
        return [DRAFT_MODEL]
    if family is not None and family.capabilities:
        return list(family.capabilities)
    if "Reward" in architecture:
        return [REWARD]
    if re.search(r"TTS|TextToSpeech|TextToWaveform|Vits|Bark|Dia[A-Z]|Csm[A-Z]", architecture):
        return [TEXT_TO_SPEECH]
    if c.section("acoustic_tokenizer_config"):
        return [TEXT_TO_SPEECH]
    if architecture.endswith("ForSequenceClassification"):
        return [_classifies(c, directory)]
    if _has_sentence_modules(directory):
        return [EMBEDDING]
    task = _task(architecture)
    if task:
        return [task]
    if (architecture.endswith(("Model", "Encoder")) or not architecture) and _embeds(c):
        return [EMBEDDING]
    senses = _senses(c) if _speaks(c) or _WRITES.search(architecture) or family is not None else []
    if _MEETING.search(architecture):
        return [EMBEDDING, AUDIO if AUDIO_TEXT_TO_TEXT in senses else VISION]
    if _WRITES.search(architecture) or senses or family is not None or _generates(c):
        return [TEXT_GENERATION, *senses]
    return []


def _task(architecture: str) -> str:
    """The one task that a class is named for, or ""."""
    if architecture.endswith(("ForMaskedLM", "ForPreTraining")):
        return FILL_MASK
    if architecture.endswith(("ForTokenClassification", "ForQuestionAnswering")):
        return CLASSIFICATION
    if re.search(r"AudioClassification|AudioFrameClassification|XVector", architecture):
        return AUDIO
    if _SEES.search(architecture) or _EYES.match(architecture) or _VISION_TOWER.search(architecture):
        return VISION
    if re.search(r"Audio(Model|Encoder|Tower)$|Diarization", architecture):
        return AUDIO
    return SPEECH_TO_TEXT if _HEARS.search(architecture) else ""


def pipeline_capabilities(class_name: str, parts: Iterable[str] = ()) -> list[str]:
    """The capabilities of a diffusion pipeline, by its class and those of its parts, or of one such part."""
    words = (class_name, *parts)
    if any(_VIDEO.search(word) for word in words) and not _PARTS.search(class_name):
        # Whichever part shows it, the class says what it starts from.
        return [IMAGE_TEXT_TO_VIDEO if _STARTS_FROM_IMAGE.search(class_name) else TEXT_TO_VIDEO]
    if any(_SOUND.search(word) for word in words):
        return [AUDIO]
    if re.search(r"Marigold|DepthEstimation|Normals", class_name):
        return [VISION]
    if _PARTS.search(class_name) or not _PICTURE.search(class_name):
        return []
    return [IMAGE_TEXT_TO_IMAGE] if _EDITS.search(class_name) else [TEXT_TO_IMAGE]


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


def _speaks(c: Section) -> bool:
    """Whether there is a vocabulary to answer in, or a part that has one."""
    if any("CausalLM" in key or "Seq" in key for key in c.section("auto_map").values):
        return True
    return "vocab_size" in c or any(section.values is not c.values for section in text_sections(c))


def _generates(c: Section) -> bool:
    """Whether a configuration without a class keeps a cache for generating tokens of a vocabulary."""
    return not c.architecture and bool(c.model_type) and "vocab_size" in c and c.flag("use_cache")


def _embeds(c: Section) -> bool:
    if _ENCODERS.search(c.model_type) or _ENCODERS.search(c.architecture):
        return True
    # A decoder saved without its head was made for embeddings, unless it keeps its cache for generating.
    return bool(c.architecture) and not c.flag("use_cache", default=True) and "Chat" not in c.architecture


def _senses(c: Section) -> list[str]:
    senses = []
    inner = c.section("thinker_config")
    sees = any(s.section(name) for s in (c, inner) for name in _VISION_SECTIONS) or any(w in c for w in _VISION_WORDS)
    # Phi-4 multimodal describes its embeddings of pictures and sounds together.
    embeddings = c.section("embd_layer")
    sees = sees or bool(embeddings.section("image_embd_layer"))
    # What reads pages has an encoder for them instead of a tower.
    sees = sees or ("image_size" in c and c.architecture.endswith("ForConditionalGeneration"))
    if sees or re.search(r"VL|Vision|Image|MiniCPMV|Llava", c.architecture):
        senses.append(IMAGE_TEXT_TO_TEXT)
    if any(s.section(name) for s in (c, inner) for name in _AUDIO_SECTIONS) or "Audio" in c.architecture:
        senses.append(AUDIO_TEXT_TO_TEXT)
    return senses
