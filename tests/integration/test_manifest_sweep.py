"""The sweep of the manifests that nothing refers to, against a real nats-server."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import nats.js.errors
import pytest
from nats.js import JetStreamContext

from libs.artifact.manifest import ChecksumAlgorithm, Manifest, ManifestFile, new_manifest
from libs.artifact.names import FACTS_BUCKET, MANIFESTS_BUCKET, facts_key
from libs.chassis.errors import Unavailable
from libs.chassis.health import Health
from libs.chassis.nats_client import connect_nats, put_if, read_key
from libs.model.manifest_codec import decode_manifest, encode_manifest
from services.controller.manifests import ManifestSweep
from services.controller.streams import ensure_streams
from services.fetcher.fleet.manifests import ManifestStore
from tests.support.nats_server import running_nats


@pytest.fixture
async def js(tmp_path: Path) -> AsyncIterator[JetStreamContext]:
    async with (
        running_nats(tmp_path) as server,
        connect_nats(server.url, Health(), "test", ca_file=server.authority) as client,
    ):
        context = client.jetstream()
        await ensure_streams(context, 1, 30)
        yield context


def manifest(name: str) -> Manifest:
    return new_manifest("r", [ManifestFile(name, 1, ChecksumAlgorithm.NONE, "")])


async def stored(js: JetStreamContext, digest: str) -> Manifest:
    """The manifest that is stored under a digest."""
    return decode_manifest((await (await js.object_store(MANIFESTS_BUCKET)).get(digest)).data or b"")


async def test_a_manifest_goes_when_two_passes_found_nothing_that_refers_to_it(js: JetStreamContext) -> None:
    wanted, unwanted = manifest("wanted"), manifest("unwanted")
    for each in (wanted, unwanted):
        await ManifestStore(js).put(each)
    sweep = ManifestSweep(js, lambda: {wanted.digest})

    assert await sweep.sweep() == set()
    assert await sweep.sweep() == {unwanted.digest}
    assert await sweep.sweep() == set()

    assert await stored(js, wanted.digest) == wanted
    with pytest.raises(nats.js.errors.NotFoundError):
        await stored(js, unwanted.digest)
    # Entry and content of the one that stays, and no trace of the other.
    assert (await js.stream_info(f"OBJ_{MANIFESTS_BUCKET}")).state.messages == 2


async def test_a_manifest_that_is_referred_to_in_between_stays(js: JetStreamContext) -> None:
    late = manifest("late")
    await ManifestStore(js).put(late)
    referenced: set[str] = set()
    sweep = ManifestSweep(js, lambda: referenced)

    await sweep.sweep()
    referenced.add(late.digest)
    await sweep.sweep()
    referenced.clear()

    assert await sweep.sweep() == set()
    assert await stored(js, late.digest) == late


async def test_a_manifest_can_be_stored_again_after_it_was_swept(js: JetStreamContext) -> None:
    again = manifest("again")
    await ManifestStore(js).put(again)
    sweep = ManifestSweep(js, set)
    await sweep.sweep()
    assert await sweep.sweep() == {again.digest}

    await ManifestStore(js).put(again)

    assert await stored(js, again.digest) == again


async def test_a_pass_that_fails_says_so_and_the_next_one_goes_on(js: JetStreamContext) -> None:
    unwanted = manifest("unwanted")
    await ManifestStore(js).put(unwanted)
    sweep = ManifestSweep(js, set)
    await sweep.sweep()
    config = (await js.stream_info(f"OBJ_{MANIFESTS_BUCKET}")).config
    await js.delete_stream(f"OBJ_{MANIFESTS_BUCKET}")
    with pytest.raises(Unavailable):
        await sweep.sweep()

    await js.add_stream(config)
    await ManifestStore(js).put(unwanted)

    assert await sweep.sweep() == {unwanted.digest}


async def test_what_others_wrote_wrongly_keeps_no_manifest_from_being_removed(js: JetStreamContext) -> None:
    await js.publish(f"$O.{MANIFESTS_BUCKET}.M.x", b"no entry has this name")
    malformed = base64.urlsafe_b64encode(b"sha256:000").decode()
    await js.publish(f"$O.{MANIFESTS_BUCKET}.M.{malformed}", b"no metadata")
    unwanted = manifest("unwanted")
    await ManifestStore(js).put(unwanted)
    sweep = ManifestSweep(js, set)

    await sweep.sweep()
    assert await sweep.sweep() == {unwanted.digest}


async def test_what_others_wrote_wrongly_keeps_no_manifest_of_a_namespace_from_being_stored(
    js: JetStreamContext,
) -> None:
    await js.publish(f"$O.{MANIFESTS_BUCKET}.M.x", b"no metadata")
    wanted = manifest("wanted")
    await ManifestStore(js).put(wanted, "team-a")

    assert (await (await js.object_store(MANIFESTS_BUCKET)).get_info(wanted.digest)).description == "team-a"


async def test_manifests_that_are_stored_at_once_count_what_is_there_once(js: JetStreamContext) -> None:
    """Each of them counts the store, and a namespace must not be refused for what another counting has added."""
    name = f"OBJ_{MANIFESTS_BUCKET}"
    await js.update_stream((await js.stream_info(name)).config, max_bytes=4 << 20)
    for number in range(400):
        entry = json.dumps({"description": "team", "size": 3 << 10})
        await js.publish(f"$O.{MANIFESTS_BUCKET}.M.entry-{number}", entry.encode())
    store, many = ManifestStore(js), [manifest(f"at-once-{number}") for number in range(8)]

    await asyncio.gather(*(store.put(each, "team") for each in many))

    assert [await stored(js, each.digest) for each in many] == many


async def test_facts_go_with_the_artifact_that_they_are_about(js: JetStreamContext) -> None:
    wanted, unwanted = manifest("wanted").digest, manifest("unwanted").digest
    keys = [facts_key(digest, "", "1") for digest in (wanted, unwanted)]
    for key in keys:
        await put_if(js, FACTS_BUCKET, key, b"", None)
    sweep = ManifestSweep(js, lambda: {wanted})

    assert await sweep.sweep_facts() == set()
    assert await sweep.sweep_facts() == {keys[1]}

    assert (await read_key(js, FACTS_BUCKET, keys[0]))[1] == b""
    assert (await read_key(js, FACTS_BUCKET, keys[1]))[1] is None


async def test_what_is_not_what_its_name_says_is_replaced_by_the_next_listing(js: JetStreamContext) -> None:
    right, wrong = manifest("right"), manifest("wrong")
    objects = await js.object_store(MANIFESTS_BUCKET)
    for nonsense in (b"nonsense", encode_manifest(wrong)):
        await objects.put(right.digest, nonsense)

        await ManifestStore(js).put(right)

        assert await stored(js, right.digest) == right
