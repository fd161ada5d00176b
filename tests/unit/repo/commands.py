"""Reads the shell commands in documents, each as the words that a shell would hand to a program."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.unit.repo.checkout import ROOT, files

_BLOCK = re.compile(r"^```(bash|sh|shell|console|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROMPT = "$ "
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
# What a shell reads itself. A loop or a function is read for the commands inside.
_SHELL = {"set", ".", "for", "do", "done", "in", "{", "}", "export", "cd", "wait"}


@dataclass(frozen=True)
class Command:
    """A command of a document; `words` are as a shell splits them, the program first."""

    document: str
    line: int
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        return self.words[0]

    @property
    def flags(self) -> list[str]:
        """Names of the flags, without their values."""
        end = self.words.index("--") if "--" in self.words else len(self.words)
        return [word.partition("=")[0] for word in self.words[1:end] if re.match(r"--?[A-Za-z]", word)]

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {' '.join(self.words)}"


def commands() -> Iterator[Command]:
    """Every command in a fenced block of a shell, of every document."""
    for document in files("*.md"):
        yield from commands_of(document, (ROOT / document).read_text(encoding="utf-8"))


def commands_of(document: Path | str, text: str) -> Iterator[Command]:
    """The commands of one document."""
    for block in _BLOCK.finditer(text):
        first = text[: block.start(2)].count("\n") + 1
        lines = _after_prompts(block[2]) if block[1] == "text" else _whole_lines(block[2])
        for number, line in lines:
            for words in _simple_commands(line):
                yield Command(str(document), first + number, words)


def _after_prompts(capture: str) -> Iterator[tuple[int, str]]:
    """The commands of what a terminal showed."""
    for number, line in enumerate(capture.splitlines()):
        if line.startswith(_PROMPT):
            yield number, line.removeprefix(_PROMPT)


def _whole_lines(script: str) -> Iterator[tuple[int, str]]:
    """Lines of a script, with those that end in a backslash, or inside of quotes, joined to the next."""
    begun, whole = 0, ""
    for number, line in enumerate(script.splitlines()):
        begun = begun if whole else number
        whole += line
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        if _is_open(whole):
            whole += "\n"
            continue
        yield begun, whole
        whole = ""


def _is_open(line: str) -> bool:
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return True
    return False


def _simple_commands(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a line: those between ; && || | and &, and those whose output is put in."""
    inner = re.findall(r"\$\(([^()]*)\)", line)
    for text in (re.sub(r"\$\([^()]*\)", "OUTPUT", line), *inner):
        lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|<>()")
        lexer.commenters = "#"
        lexer.whitespace_split = True
        found: list[str] = []
        for word in [*lexer, ";"]:
            if not re.fullmatch(r"[;&|()]+", word):
                found.append(word)
                continue
            if words := _without_shell(found):
                yield words
            found = []


def _without_shell(words: list[str]) -> tuple[str, ...]:
    """A command without assignments, words of the shell, and where its output goes."""
    rest = list(words)
    if rest[:1] == ["for"]:
        return ()
    while rest and (rest[0] in _SHELL or _ASSIGNMENT.match(rest[0])):
        if rest[0] in ("set", "."):
            return ()
        rest.pop(0)
    for number, word in enumerate(rest):
        if re.fullmatch(r"\d?[<>]+", word):
            return tuple(rest[:number])
    return tuple(rest)
