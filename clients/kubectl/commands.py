"""The commands of the plugin: fetch objects, have views made of them, print. Exit codes are in `usage`.

Owns the order of requests. What is shown is decided in views, why something is so in libs.model.
"""

import math
import os
import re
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from clients.kubectl import plans, views
from clients.kubectl.apiserver import ApiServer, NotAdmitted, Object, Refused, address
from clients.kubectl.objects import (
    GROUP_VERSION,
    NAMESPACED,
    PLURALS,
    STATUS_LABEL,
    Entry,
    by_name,
    entries_of,
    kind_spelled,
    node_facts,
    shown_name,
)
from clients.kubectl.parsing import Unreadable, parsed
from clients.kubectl.tables import Column, documents, harmless, table
from libs.model import actions
from libs.model.explanation import NodeFacts, explain_model, explain_node
from libs.model.placement import placed_like

if TYPE_CHECKING:
    from clients.kubectl.status_page import StatusPage

OK, HAS_FAILED, WRONG_USAGE, NOT_YET, NO_ANSWER = 0, 1, 2, 3, 4
# After which a watch is begun anew: proxies end longer ones in their own ways.
_WATCH_SECONDS = 300
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_CLEAR_LINE, _LINE_UP = "\x1b[2K", "\x1b[1A"
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class Usage(Exception):
    """The user has to ask in another way; the message says how."""


class Unfit(Exception):
    """The model's state or rules are against what the user asks for; the message says why."""


class Commands:
    """One run of the plugin."""

    def __init__(self, api: ApiServer, options: Namespace, out: TextIO, colour: bool) -> None:
        self._api = api
        self._options = options
        self._out = out
        self._colour = colour

    def run(self) -> int:
        """Do what the user asks; returns the exit code. Raises Refused or Usage."""
        command: Callable[[], int] = getattr(self, f"_{self._options.command}")
        return command()

    def _get(self) -> int:
        models = self._chosen() if self._options.model else self._models()
        self._print(views.model_rows(models, datetime.now(UTC)), views.MODEL_COLUMNS)
        return OK

    def _status(self) -> int:
        if not self._options.model:
            if self._options.watch:
                raise Usage("name the model to watch: kubectl ome-models status MODEL -w")
            models = by_name(self._models())
            if self._for_programs():
                self._print([views.status_row(model, []) for model in models], ())
                return _worst(models, self._options.until)
            self._draw([line for model in models for line in views.status_lines(model, [], self._colour)])
            return _worst(models, self._options.until)
        model = self._model()
        if not self._options.watch:
            self._tell_status(model)
            return _verdict(model, self._options.until)
        return self._follow(model)

    def _follow(self, model: Object) -> int:
        """Draw the model again and again until it is there or has failed."""
        drawn = 0
        for seen in self._versions(model):
            if self._for_programs():
                # A document for each change, as kubectl has it.
                self._tell_status(seen)
                if (verdict := _verdict(seen, self._options.until)) != NOT_YET:
                    return verdict
                continue
            lines = self._status_lines(seen)
            if self._out.isatty():
                self._out.write(f"{_LINE_UP}{_CLEAR_LINE}" * drawn)
            self._draw(lines)
            drawn = sum(_height(line) for line in lines)
            if (verdict := _verdict(seen, self._options.until)) != NOT_YET:
                return verdict
        return NOT_YET

    def _verify(self) -> int:
        model, node = self._model(), self._options.node
        self._refuse("verify", model, actions.why_not_verified(model, node))
        word = _now()
        model = self._patched(model, actions.verify_patch(word, node))
        told: set[str] = set()
        verified: Mapping[str, Any] = {}
        deadline = time.monotonic() + self._options.timeout
        for seen in self._versions(model, deadline):
            verified = (seen.get("status") or {}).get("verification") or {}
            answers = views.verified_lines(verified, word, node)
            self._draw([line for name, line in answers.items() if name not in told])
            told |= answers.keys()
            if views.is_verified(verified, word):
                break
        else:
            self._draw(views.unverified_lines(model, told, node))
            return NOT_YET
        more = verified["nodesDone"] - len(told)
        self._draw([f"and {more} more nodes, which found no damage"] if more > 0 else [])
        return HAS_FAILED if views.found_damage(verified, word) else OK

    def _evict(self) -> int:
        model, node = self._model(), self._options.node
        self._refuse("evict", model, actions.why_not_evicted(model, node))
        self._patched(model, actions.evict_patch(model, node))
        where = f"node {node}" if node else "all nodes"
        self._draw([f"{shown_name(model)} is to leave {where}; status {self._options.model} tells when it has."])
        return OK

    def _pull(self) -> int:
        model, node = self._model(), self._options.node
        self._refuse("pull", model, actions.why_not_pulled(model, node))
        self._patched(model, actions.pull_patch(model, _now(), node))
        where = f"node {node}" if node else "all nodes that have given it up"
        self._draw([f"{shown_name(model)} comes back to {where}; status {self._options.model} -w shows how far it is."])
        return OK

    def _refuse(self, what: str, model: Object, why: str) -> None:
        """Raise Unfit when the model's own state or rules are against something."""
        if why:
            raise Unfit(f"cannot {what} {shown_name(model)}: {why}")

    def _patched(self, model: Object, patch: Object) -> Object:
        metadata = model["metadata"]
        resource = f"{PLURALS[model['kind']]}.{GROUP_VERSION.partition('/')[0]}"
        changed = self._api.patch(resource, metadata["name"], metadata.get("namespace", ""), patch)
        return {**changed, "kind": model["kind"]}

    def _parse(self) -> int:
        try:
            facts = parsed(self._options.source)
        except Unreadable as error:
            raise Unfit(f"cannot parse {self._options.source}: {error}") from error
        self._out.write(documents([facts], "json" if self._options.output == "json" else "yaml") + "\n")
        return OK

    def _versions(self, model: Object, deadline: float = math.inf) -> Iterator[Object]:
        """The model as it is, and after each change; to the end of time, or of the monotonic clock's deadline."""
        path, name = _collection(model["kind"], model["metadata"].get("namespace", "")), model["metadata"]["name"]
        while True:
            yield model
            if (left := deadline - time.monotonic()) < 1:
                return
            version = model["metadata"]["resourceVersion"]
            events = self._api.watch(
                path,
                fieldSelector=f"metadata.name={name}",
                resourceVersion=version,
                timeoutSeconds=str(int(min(_WATCH_SECONDS, left))),
            )
            for event in events:
                if event["type"] == "DELETED":
                    raise Refused(f"{shown_name(model)} was deleted")
                if event["type"] not in ("ADDED", "MODIFIED"):
                    break
                yield event["object"]
            # The watch has ended, or the version is too old for it: begin again with what there is now.
            time.sleep(1)
            model = self._api.get(f"{path}/{name}")

    def _for_programs(self) -> bool:
        return self._options.output not in ("table", "wide")

    def _tell_status(self, model: Object) -> None:
        if self._for_programs():
            self._print([views.status_row(model, self._facts(model))], ())
        else:
            self._draw(self._status_lines(model))

    def _facts(self, model: Object) -> list[NodeFacts]:
        return [node_facts(model, node, entry) for node, entry in self._nodes_with_entries(model["metadata"]["uid"])]

    def _status_lines(self, model: Object) -> list[str]:
        facts = self._facts(model)
        return views.status_lines(model, facts, self._colour, self._options.output == "wide")

    def _why(self) -> int:
        model = self._model()
        uid, named = model["metadata"]["uid"], self._options.node
        found = [node_facts(model, node, entry) for node, entry in self._nodes_with_entries(uid)]
        placement = self._placement(model)
        if not named:
            explained = explain_model(model, found, placement)
        else:
            facts = next((each for each in found if each.name == named), None)
            if facts is None:
                raise Refused(f"there is no node {named}, or you may not see it")
            explained = explain_node(model, facts, datetime.now(UTC), placement)
        if self._for_programs():
            row = {
                "id": shown_name(model),
                "model": shown_name(model),
                "node": named,
                "verdict": explained.verdict,
                "wanted": explained.wanted,
                "rules": [str(rule) for rule in explained.rules],
                "details": list(explained.details),
                "last": explained.last,
                "next": explained.next,
                "who": explained.who,
                "todo": explained.todo,
            }
            self._out.write(documents([row], self._options.output) + "\n")
        else:
            self._draw(list(explained.lines()))
        return OK

    def _placement(self, model: Object) -> Mapping[str, Any] | None:
        """The storage whose rules choose the nodes of a weight that follows its base; None for other models."""
        base, storage = (model.get("status") or {}).get("base"), (model.get("spec") or {}).get("storage")
        if not base or not storage:
            return None
        found = self._api.get(f"{_collection(base['kind'], base.get('namespace', ''))}/{base['name']}")
        return placed_like(storage, (found.get("spec") or {}).get("storage") or {})

    def _plan(self) -> int:
        try:
            objects = self._api.dry_run(self._options.filename, self._options.namespace)
        except NotAdmitted as error:
            self._draw(["The API server would not take it:", *str(error).splitlines()])
            return HAS_FAILED
        if any(each["kind"] not in PLURALS for each in objects):
            raise Usage("plan takes files of models alone: BaseModel, ClusterBaseModel or FineTunedWeight")
        page = self._page()
        if page is None:
            self._draw([f"{shown_name(each)}: the API server would take it." for each in objects])
            sys.stderr.write("The rest is not known: name OME's page by --status, and an account by --account.\n")
            return NOT_YET
        rows = [{"id": shown_name(each), **plans.plan_row(each, page.plan(_applied(each)))} for each in objects]
        if self._options.output in ("table", "wide"):
            for row in rows:
                self._draw(plans.plan_lines(row, self._options.output == "wide", self._colour))
        else:
            self._out.write(documents(rows, self._options.output) + "\n")
        verdicts = {row["verdict"] for row in rows}
        return HAS_FAILED if plans.FAILS in verdicts else NOT_YET if plans.UNKNOWN in verdicts else OK

    def _page(self) -> "StatusPage | None":
        """OME's page, as the user names it; None if it is not named."""
        address = self._options.status or os.environ.get("OME_STATUS", "")
        if not address:
            return None
        # It takes a tenth of a second to import, which no other command needs.
        from clients.kubectl.status_page import StatusPage

        namespace, _, account = self._options.account.rpartition("/")
        token = os.environ.get("OME_STATUS_TOKEN", "")
        if account:
            token = self._api.token(account, namespace or self._namespace(), self._options.audience)
        if not token:
            raise Usage("name a ServiceAccount by --account, or put a token for OME into OME_STATUS_TOKEN")
        own = self._options.ome_namespace
        try:
            authority = self._api.get(f"/api/v1/namespaces/{own}/configmaps/ome-status-ca")["data"]["ca.crt"]
        except (Refused, KeyError):
            # The page has a certificate that everybody knows, or the user may not see whose it is.
            return StatusPage(address, token)
        return StatusPage(address, token, authority, f"ome-status.{own}.svc")

    def _nodes(self) -> int:
        nodes, entries, models = self._fleet()
        self._print(views.node_rows(nodes, entries, models), views.NODE_COLUMNS)
        return OK

    def _top(self) -> int:
        _, entries, models = self._fleet()
        self._print(views.top_rows(models, entries), views.TOP_COLUMNS)
        return OK

    def _history(self) -> int:
        model = self._model()
        where = model["metadata"].get("namespace")
        path = f"/api/v1/namespaces/{where}/events" if where else "/api/v1/events"
        try:
            events = self._api.get(path, fieldSelector=f"involvedObject.uid={model['metadata']['uid']}")["items"]
        except Refused as refused:
            # What the object itself says is worth showing without them.
            sys.stderr.write(harmless(f"Events are left out: {refused}\n"))
            events = []
        self._print(views.history_rows(model, events), views.HISTORY_COLUMNS)
        return OK

    def _completion(self) -> int:
        self._out.write(COMPLETION)
        return OK

    def _fleet(self) -> tuple[list[Object], dict[str, dict[str, Entry]], list[Object]]:
        """All nodes, what each has of models, and all models that the user may list."""
        nodes, config_maps = self._api.get_all(["/api/v1/nodes", self._config_maps()])
        entries = {each["metadata"]["name"]: entries_of(each) for each in config_maps["items"]}
        return nodes["items"], entries, self._models(everywhere=True)

    def _nodes_with_entries(self, uid: str) -> list[tuple[Object, Entry | None]]:
        """Every node with what it has of a model; without entries if the user may not read OME's namespace."""
        try:
            nodes, config_maps = self._api.get_all(["/api/v1/nodes", self._config_maps()])
        except Refused:
            nodes, config_maps = self._api.get("/api/v1/nodes"), {"items": []}
        entries = {each["metadata"]["name"]: entries_of(each).get(uid) for each in config_maps["items"]}
        return [(node, entries.get(node["metadata"]["name"])) for node in nodes["items"]]

    def _config_maps(self) -> str:
        path = f"/api/v1/namespaces/{self._options.ome_namespace}/configmaps"
        return address(path, labelSelector=STATUS_LABEL)

    def _models(self, everywhere: bool = False) -> list[Object]:
        """Models of all kinds. Kinds that the user may not list are left out, unless there is nothing else."""
        namespace = "" if everywhere or self._options.all_namespaces else self._namespace()
        paths = {kind: _collection(kind, namespace if kind == NAMESPACED else "") for kind in PLURALS}
        found: list[Object] = []
        refused: list[Refused] = []
        try:
            lists = self._api.get_all(list(paths.values()))
            answers = dict(zip(paths, lists, strict=True))
        except Refused:
            answers = {}
            for kind, path in paths.items():
                try:
                    answers[kind] = self._api.get(path)
                except Refused as error:
                    refused.append(error)
        for kind, answer in answers.items():
            # Items of a list do not say what they are.
            found += [{"apiVersion": GROUP_VERSION, **item, "kind": kind} for item in answer["items"]]
        if refused and not answers:
            raise refused[0]
        return found

    def _chosen(self) -> list[Object]:
        return [self._model()]

    def _model(self) -> Object:
        """The model that the user names, as NAME or KIND/NAME."""
        word, slash, name = self._options.model.partition("/")
        kind = kind_spelled(word.partition(".")[0]) if slash else None
        if slash and kind is None:
            raise Usage(f"{word} is no kind of model: write one of {', '.join(PLURALS)}")
        named = name if slash else word
        if kind:
            path = _collection(kind, self._namespace() if kind == NAMESPACED else "")
            return {**self._api.get(f"{path}/{named}"), "kind": kind}
        matching = [model for model in self._models() if model["metadata"]["name"] == named]
        if not matching:
            raise Refused(f"there is no model {named}, or you may not see it; -n NAMESPACE or -A looks elsewhere")
        if len(matching) > 1:
            choices = " or ".join(sorted({shown_name(model) for model in matching}))
            where = " and ".join(sorted({model["metadata"].get("namespace", "") for model in matching} - {""}))
            raise Usage(f"there are several models {named}: name {choices}" + (f", in {where}" if where else ""))
        return matching[0]

    def _namespace(self) -> str:
        return self._options.namespace or self._api.namespace()

    def _print(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        form = self._options.output
        if form in ("table", "wide"):
            if not rows:
                sys.stderr.write("No models found.\n")
                return
            self._draw([table(rows, columns, form == "wide", self._colour)])
        else:
            self._out.write(documents(rows, form) + "\n")

    def _draw(self, lines: Sequence[str]) -> None:
        self._out.write(harmless("".join(f"{line}\n" for line in lines)))
        self._out.flush()


def _collection(kind: str, namespace: str) -> str:
    scope = f"namespaces/{namespace}/" if namespace else ""
    return f"/apis/{GROUP_VERSION}/{scope}{PLURALS[kind]}"


def _now() -> str:
    """Names a request: no other one is made in the same microsecond."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _applied(item: Mapping[str, Any]) -> Object:
    """What of an object is the user's word, and not the API server's."""
    said = ("name", "namespace", "labels", "annotations")
    metadata = {key: item["metadata"][key] for key in said if key in item["metadata"]}
    # kubectl's own copy of the manifest.
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != _LAST_APPLIED}
    metadata |= {"annotations": annotations} if annotations else {}
    return {**{key: item[key] for key in ("apiVersion", "kind", "spec") if key in item}, "metadata": metadata}


def _height(line: str) -> int:
    """Lines of the terminal that a line takes."""
    return max(1, math.ceil(len(_ESCAPES.sub("", line)) / shutil.get_terminal_size().columns))


def _worst(models: Sequence[Mapping[str, Any]], until: str) -> int:
    """The exit code for several models: one that has failed counts before one that is not there."""
    verdicts = {_verdict(model, until) for model in models}
    return next((each for each in (HAS_FAILED, NOT_YET) if each in verdicts), OK)


def _verdict(model: Mapping[str, Any], until: str) -> int:
    """The exit code for how a model stands."""
    status = model.get("status") or {}
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    if int(status.get("observedGeneration") or 0) < int(model["metadata"].get("generation") or 0):
        # What is said is about an earlier edit.
        return NOT_YET
    reached = status.get("state") == "Ready" if until == "ready" else conditions.get("Complete") == "True"
    if reached:
        return OK
    return HAS_FAILED if status.get("state") == "Failed" else NOT_YET


COMPLETION = """#!/bin/sh
# Save this as kubectl_complete-ome_models, executable, in a directory of PATH: kubectl calls it for the words to offer.
exec kubectl ome-models __complete "$@"
"""
