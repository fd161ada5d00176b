"""For each alert rule, series of a trouble that begins and ends: what Prometheus holds, and what the alert then says.

A scenario is healthy, then sick, then healthy again, a sample a minute. The series have the names and labels that the
services export, and those that scraping adds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# What a scrape adds to each series.
SCRAPED = ("instance",)


@dataclass(frozen=True)
class Level:
    """A gauge: its value in each phase. None is a series that is not there, as that of a Pod which is gone."""

    healthy: float | None
    sick: float | None
    recovered: float | None

    def samples(self, minutes: tuple[int, int, int]) -> Iterator[str]:
        """The value at each minute."""
        for value, count in zip((self.healthy, self.sick, self.recovered), minutes, strict=True):
            yield from ["_" if value is None else f"{value:.15g}"] * count


@dataclass(frozen=True)
class Growth:
    """A counter: by how much it grows in a minute in each phase; once adds so much as the trouble begins."""

    healthy: float = 0
    sick: float = 0
    recovered: float = 0
    once: float = 0

    def samples(self, minutes: tuple[int, int, int]) -> Iterator[str]:
        """The value at each minute."""
        total = 0.0
        for phase, (step, count) in enumerate(zip((self.healthy, self.sick, self.recovered), minutes, strict=True)):
            total += self.once if phase == 1 else 0
            for _ in range(count):
                total += step
                yield f"{total:.15g}"


@dataclass(frozen=True)
class Scenario:
    """One trouble. alerts are the labels beside the severity, and the summary, of what fires at the end of its time.

    minutes are those of the three phases. quiet_minutes is how long it is sick before anything may fire.
    """

    name: str
    alert: str
    severity: str
    series: Mapping[str, Level | Growth]
    alerts: tuple[tuple[Mapping[str, str], str], ...]
    quiet_minutes: int
    minutes: tuple[int, int, int] = field(default=(60, 60, 60))

    def input_series(self) -> list[dict[str, str]]:
        """The series as promtool reads them."""
        return [{"series": name, "values": " ".join(each.samples(self.minutes))} for name, each in self.series.items()]

    def expectations(self, runbook: str) -> list[dict[str, Any]]:
        """What fires while all is well, before it has lasted, at the end of the trouble, and after it."""
        healthy, sick, recovered = self.minutes
        fired = [
            {
                "exp_labels": {"severity": self.severity, **labels},
                "exp_annotations": {"summary": summary, "runbook_url": runbook},
            }
            for labels, summary in self.alerts
        ]
        last = healthy + sick + recovered - 1
        times: tuple[tuple[int, list[dict[str, Any]]], ...] = (
            (healthy - 1, []),
            (healthy + self.quiet_minutes - 1, []),
            (healthy + sick - 1, fired),
            (last, []),
        )
        return [{"alertname": self.alert, "eval_time": f"{minute}m", "exp_alerts": alerts} for minute, alerts in times]


_GIB = 1 << 30
_BUCKETS = ("60", "3600", "7200", "+Inf")


def _histogram(**growth: Growth) -> dict[str, Level | Growth]:
    """The buckets of a writing replica, and their count."""
    name = "ome_status_ready_seconds"
    buckets: dict[str, Level | Growth] = {
        f'{name}_bucket{{instance="a",le="{edge}"}}': growth["quick" if edge in ("60", "3600") else "all"]
        for edge in _BUCKETS
    }
    return {**buckets, f'{name}_count{{instance="a"}}': growth["all"]}


SCENARIOS = (
    Scenario(
        "models fail and are mended, and both replicas say so",
        "OmeModelsFailed",
        "warning",
        {
            'ome_status_models_in_state{instance="a",state="Failed"}': Level(0, 2, 0),
            'ome_status_models_in_state{instance="b",state="Failed"}': Level(0, 2, 0),
            'ome_status_models_in_state{instance="a",state="Incomplete"}': Level(0, 1, 0),
            'ome_status_models_in_state{instance="a",state="Ready"}': Level(5, 2, 5),
        },
        (({}, "3 models have failed on all their nodes."),),
        15,
    ),
    Scenario(
        "models fail on nodes for one reason",
        "OmeModelFailsOnNodes",
        "warning",
        {
            'ome_status_failures{instance="a",reason="Forbidden"}': Level(0, 4, 0),
            'ome_status_failures{instance="b",reason="Forbidden"}': Level(0, 4, 0),
            'ome_status_failures{instance="a",reason="NotFound"}': Level(0, 0, 0),
        },
        (({"reason": "Forbidden"}, "Models fail on nodes 4 times with Forbidden."),),
        30,
    ),
    Scenario(
        "models that were Ready in a minute take up to two hours",
        "OmeModelsReadyLate",
        "warning",
        _histogram(quick=Growth(0.5, 0, 0.5), all=Growth(0.5, 0.5, 0.5)),
        (({}, "A tenth of the models of the last hour took longer than 1h 54m 0s until Ready."),),
        15,
        (120, 120, 180),
    ),
    Scenario(
        "the fetcher of a node is silent",
        "OmeFetchersSilent",
        "warning",
        {
            'ome_status_nodes{instance="a",state="silent"}': Level(0, 1, 0),
            'ome_status_nodes{instance="a",state="reporting"}': Level(3, 2, 3),
        },
        (({}, "The fetchers of 1 nodes do not report."),),
        10,
    ),
    Scenario(
        "no replica holds the Lease",
        "OmeNobodyWritesStatus",
        "critical",
        {
            'ome_status_leader{instance="a"}': Level(1, 0, 1),
            'ome_status_leader{instance="b"}': Level(0, 0, 0),
        },
        (({}, "0 replicas of ome-status write instead of one."),),
        5,
    ),
    Scenario(
        "two replicas hold the Lease",
        "OmeNobodyWritesStatus",
        "critical",
        {
            'ome_status_leader{instance="a"}': Level(1, 1, 1),
            'ome_status_leader{instance="b"}': Level(0, 1, 0),
        },
        (({}, "2 replicas of ome-status write instead of one."),),
        5,
    ),
    Scenario(
        "there is no replica",
        "OmeNobodyWritesStatus",
        "critical",
        {'ome_status_leader{instance="a"}': Level(1, None, 1)},
        (({}, "0 replicas of ome-status write instead of one."),),
        # What is gone is believed for four more samples.
        9,
    ),
    Scenario(
        "the API server refuses writes, beside conflicts, which are no trouble",
        "OmeStatusWritesFail",
        "warning",
        {
            'ome_status_writes_total{instance="a",reason="Forbidden",resource="nodes",verb="patch"}': Growth(0, 2, 0),
            'ome_status_writes_total{instance="a",reason="Conflict",resource="nodes",verb="patch"}': Growth(1, 1, 1),
            'ome_status_writes_total{instance="a",reason="",resource="nodes",verb="patch"}': Growth(9, 9, 9),
        },
        (({"resource": "nodes", "reason": "Forbidden"}, "Writes of nodes fail with Forbidden."),),
        15,
    ),
    Scenario(
        "a root is not mounted",
        "OmeRootUnusable",
        "critical",
        {
            'ome_fetcher_root_usable{instance="n1",root="/models"}': Level(1, 0, 1),
            'ome_fetcher_root_usable{instance="n2",root="/models"}': Level(1, 1, 1),
        },
        (({"instance": "n1", "root": "/models"}, "The model root /models of n1 cannot be used."),),
        10,
    ),
    Scenario(
        "a root fills",
        "OmeRootAlmostFull",
        "warning",
        {
            'ome_fetcher_root_free_bytes{instance="n1",root="/models"}': Level(500 * _GIB, 50 * _GIB, 500 * _GIB),
            'ome_fetcher_root_free_bytes{instance="n2",root="/models"}': Level(500 * _GIB, 100 * _GIB, 500 * _GIB),
        },
        (({"instance": "n1", "root": "/models"}, "/models of n1 has 50GiB left."),),
        30,
    ),
    Scenario(
        "most downloads of one source fail",
        "OmeDownloadsFail",
        "warning",
        {
            'ome_fetcher_transfers_total{backend="hf",instance="n1",result="Forbidden"}': Growth(0, 3, 0),
            'ome_fetcher_transfers_total{backend="hf",instance="n1",result="Ok"}': Growth(4, 1, 4),
            'ome_fetcher_transfers_total{backend="s3",instance="n1",result="Ok"}': Growth(4, 4, 4),
            'ome_fetcher_transfers_total{backend="s3",instance="n1",result="MadeRoom"}': Growth(9, 9, 9),
        },
        (({"backend": "hf", "result": "Forbidden"}, "75% of the downloads by hf end with Forbidden."),),
        30,
    ),
    Scenario(
        "a download waits for a slot",
        "OmeDownloadsWait",
        "warning",
        {
            'ome_fetcher_queue_age_seconds{instance="n1"}': Level(0, 7 * 3600, 0),
            'ome_fetcher_queue_age_seconds{instance="n2"}': Level(0, 3600, 0),
        },
        (({"instance": "n1"}, "On n1 a download has waited for a slot for 7h 0m 0s."),),
        10,
    ),
    Scenario(
        "sources are refused to the resolver",
        "OmeListingsFail",
        "warning",
        {
            'ome_fetcher_resolves_total{instance="r1",result="Unavailable"}': Growth(0, 1, 0),
            'ome_fetcher_resolves_total{instance="r1",result="NotFound"}': Growth(0.2, 0.2, 0.2),
            'ome_fetcher_resolves_total{instance="r1",result="Ok"}': Growth(5, 5, 5),
        },
        (({"result": "Unavailable"}, "Listings of sources failed 60 times in an hour with Unavailable."),),
        30,
        (60, 90, 120),
    ),
    Scenario(
        "one file is damaged on one node, once",
        "OmeArtifactDamaged",
        "warning",
        {
            'ome_fetcher_scrubs_total{instance="n1",result="Damaged"}': Growth(once=1),
            'ome_fetcher_scrubs_total{instance="n1",result="Ok"}': Growth(1, 1, 1),
            'ome_fetcher_scrubs_total{instance="n2",result="Damaged"}': Growth(),
        },
        (({"instance": "n1"}, "Files of models were damaged on n1."),),
        0,
        (60, 60, 1441),
    ),
    Scenario(
        "the gateway refuses what nodes say",
        "OmeGatewayRefuses",
        "warning",
        {
            'ome_gateway_requests_total{instance="c1",result="Malformed",verb="observed"}': Growth(0, 30, 0),
            'ome_gateway_requests_total{instance="c1",result="Forbidden",verb="facts"}': Growth(1, 1, 1),
            'ome_gateway_requests_total{instance="c1",result="Ok",verb="observed"}': Growth(600, 600, 600),
        },
        (
            (
                {"verb": "observed", "result": "Malformed"},
                "The gateway answers observed of nodes with Malformed.",
            ),
        ),
        15,
    ),
)
