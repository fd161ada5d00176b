"""The reference of the protos: services, messages and enums with their comments, as protoc reads them."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

from tools.bootstrap.protos import PROTO_ROOT
from tools.docs.reference.table import prose, table

# Numbers of the fields in descriptor.proto, by which comments name their place.
_PACKAGE, _MESSAGE, _ENUM, _SERVICE = 2, 4, 5, 6
_SYNTAX = 12
_FIELD_OF_MESSAGE, _MESSAGE_OF_MESSAGE, _ENUM_OF_MESSAGE, _VALUE, _METHOD = 2, 3, 4, 2, 2

Place = tuple[int, ...]


class Comments:
    """What stands before each declaration of a file."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._found: Mapping[Place, str] = {
            tuple(location.path): location.leading_comments or location.trailing_comments
            for location in file.source_code_info.location
        }

    def __getitem__(self, place: Place) -> str:
        lines = self._found.get(place, "").split("\n")
        return prose("\n".join(line.removeprefix(" ") for line in lines).strip())


def described_files(root: Path = PROTO_ROOT) -> list[FileDescriptorProto]:
    """Every .proto file below root with its comments. Raises ValueError when protoc refuses one."""
    sources = sorted(str(path.relative_to(root)) for path in root.rglob("*.proto"))
    if not sources:
        return []
    well_known = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "descriptors"
        command = ["protoc", f"--proto_path={root}", f"--proto_path={well_known}", "--include_source_info"]
        status = protoc.main([*command, f"--descriptor_set_out={out}", *sources])
        if status != 0:
            raise ValueError(f"protoc failed with status {status}")
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def page(file: FileDescriptorProto, pages: Mapping[str, str]) -> str:
    """The page of one file; `pages` has the name of each package's page, so that types can be linked."""
    comments = Comments(file)
    lines = [f"# {file.package}\n", f"{comments[(_SYNTAX,)] or comments[(_PACKAGE,)]}\n", f"`proto/{file.name}`\n"]
    for number, service in enumerate(file.service):
        lines += _service(service, (_SERVICE, number), comments, file.package, pages)
    for number, message in enumerate(file.message_type):
        lines += _message(message, "", (_MESSAGE, number), comments, file.package, pages)
    for number, enum in enumerate(file.enum_type):
        lines += _enum(enum, "", (_ENUM, number), comments)
    return "\n".join(lines)


def anchor(title: str) -> str:
    """The fragment of a heading that holds only letters and dots."""
    return title.lower().replace(".", "").replace(" ", "-")


def _service(
    service: ServiceDescriptorProto, place: Place, comments: Comments, package: str, pages: Mapping[str, str]
) -> Iterator[str]:
    yield f"## Service {service.name}\n"
    yield f"{comments[place]}\n"
    for number, method in enumerate(service.method):
        asked, answer = (_link(name, package, pages) for name in (method.input_type, method.output_type))
        yield f"### {method.name}\n"
        yield f"{asked} → {'stream of ' if method.server_streaming else ''}{answer}\n"
        yield f"{comments[(*place, _METHOD, number)]}\n"


def _message(
    message: DescriptorProto, outer: str, place: Place, comments: Comments, package: str, pages: Mapping[str, str]
) -> Iterator[str]:
    if message.options.map_entry:
        return
    name = f"{outer}{message.name}"
    yield f"## {name}\n"
    yield f"{comments[place]}\n"
    maps = {inner.name: inner for inner in message.nested_type if inner.options.map_entry}
    if message.field:
        rows = (
            (
                f"`{field.name}`",
                str(field.number),
                _type(field, maps, package, pages),
                comments[(*place, _FIELD_OF_MESSAGE, number)] + _one_of(message, field),
            )
            for number, field in enumerate(message.field)
        )
        yield table(("Field", "Number", "Type", "Meaning"), rows)
    for number, inner in enumerate(message.nested_type):
        yield from _message(inner, f"{name}.", (*place, _MESSAGE_OF_MESSAGE, number), comments, package, pages)
    for number, enum in enumerate(message.enum_type):
        yield from _enum(enum, f"{name}.", (*place, _ENUM_OF_MESSAGE, number), comments)


def _enum(enum: EnumDescriptorProto, outer: str, place: Place, comments: Comments) -> Iterator[str]:
    yield f"## {outer}{enum.name}\n"
    yield f"{comments[place]}\n"
    rows = (
        (f"`{value.name}`", str(value.number), comments[(*place, _VALUE, number)])
        for number, value in enumerate(enum.value)
    )
    yield table(("Value", "Number", "Meaning"), rows)


def _one_of(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    if not field.HasField("oneof_index") or field.proto3_optional:
        return ""
    return f" (one of `{message.oneof_decl[field.oneof_index].name}`)"


def _type(
    field: FieldDescriptorProto, maps: Mapping[str, DescriptorProto], package: str, pages: Mapping[str, str]
) -> str:
    entry = maps.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = (_type(each, {}, package, pages) for each in entry.field)
        return f"map of {key} to {value}"
    named = bool(field.type_name)
    single = _link(field.type_name, package, pages) if named else FieldDescriptorProto.Type.Name(field.type)[5:].lower()
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return f"list of {single}" if repeated else f"optional {single}" if field.proto3_optional else single


def _link(type_name: str, package: str, pages: Mapping[str, str]) -> str:
    full = type_name.removeprefix(".")
    home = next((each for each in pages if full.startswith(f"{each}.")), None)
    if home is None:
        return f"`{full}`"
    short = full.removeprefix(f"{home}.")
    return f"[{short}]({'' if home == package else pages[home]}#{anchor(short)})"
