"""Reports to InferenceServices whether their model is Ready. Owns when it is written; service_report says what."""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from libs.artifact.reasons import Reason
from libs.chassis.errors import Conflict, Invalid, Missing
from libs.chassis.kube import Object
from services.status.cluster import SERVICES, Cluster
from services.status.kube import Writer
from services.status.service_report import is_said, service_status, timeless

_log = structlog.get_logger()


class ServiceLoop:
    """Reconciles InferenceServices by uid; only the leader writes."""

    def __init__(self, writer: Writer, cluster: Cluster, leading: Callable[[], bool]) -> None:
        self._writer = writer
        self._cluster = cluster
        self._leading = leading
        # What was refused is not asked for again: the status may be that of another product, which owns it.
        self._refused: dict[str, Object] = {}

    async def reconcile(self, uid: str) -> None:
        """Bring what a service says of its model up to date."""
        service = self._cluster.service(uid)
        if service is None:
            self._refused.pop(uid, None)
            return
        status = service_status(service, self._cluster.served_model(uid), datetime.now(UTC))
        if (
            status is None
            or not self._leading()
            or is_said(service, status)
            or self._refused.get(uid) == timeless(status)
        ):
            return
        metadata = {key: service["metadata"][key] for key in ("name", "namespace", "uid")}
        try:
            written = await self._writer.apply(SERVICES, {"metadata": metadata, "status": status}, "status")
        except (Conflict, Invalid) as error:
            # Without force: where another controller owns the conditions as a whole, they are left to it.
            _log.warning("service_status_refused", service=metadata["name"], message=error.message)
            self._refused[uid] = timeless(status)
        except Missing as error:
            if error.reason is not Reason.NOT_FOUND:
                raise
        else:
            self._refused.pop(uid, None)
            self._cluster.absorb_service(written)
