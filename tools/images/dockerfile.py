"""Reads the few instructions that our Dockerfiles use, so that they stay the one description of what an image holds."""

import json
import re
from dataclasses import dataclass, field


class UnknownInstruction(ValueError):
    """A Dockerfile says something that the builder without an engine does not do."""


@dataclass
class Stage:
    """One FROM with what follows: commands in their order, and the stages whose files are copied."""

    name: str
    commands: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)


@dataclass
class Image:
    stages: list[Stage] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    entrypoint: list[str] = field(default_factory=list)


def read(text: str, base_path: str) -> Image:
    """The image that a Dockerfile of ours describes; `base_path` stands for $PATH of its base image."""
    image = Image()
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(None, map(str.strip, joined.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            image.stages.append(Stage(rest.partition(" AS ")[2]))
        elif instruction == "COPY":
            if match := re.fullmatch(r"--from=(\w+) /app /app", rest):
                image.stages[-1].copied.append(match[1])
            elif not re.fullmatch(r"(\w+\.pex) /\1", rest):
                raise UnknownInstruction(line)
        elif instruction == "RUN":
            image.stages[-1].commands.append(re.sub(r"\s+", " ", rest))
        elif instruction == "ENV":
            for name, value in re.findall(r"(\w+)=(\S+)", rest):
                image.environment[name] = value.replace("$PATH", base_path)
        elif instruction == "USER":
            image.user = rest
        elif instruction == "ENTRYPOINT":
            image.entrypoint = json.loads(rest)
        else:
            raise UnknownInstruction(line)
    return image
