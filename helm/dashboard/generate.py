#!/usr/bin/env python3
"""Prints the Grafana dashboard of redlockd, which the chart holds as files/dashboard.json.

    pip install grafana-foundation-sdk==1769699998!10.1.0
    helm/dashboard/generate.py > helm/files/dashboard.json
"""
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# Which gateways: everything below is of the chosen job, every pod of it.
JOB = 'job=~"$job"'
LOCKS = f'{JOB}, route=~"/locks.*"'


def query(expression, legend="", instant=False):
    made = prometheus.Dataquery().expr(expression).legend_format(legend).datasource(SOURCE)
    return made.instant() if instant else made.range()


def steps(*pairs):
    """Colours from a value on, the first from anywhere."""
    thresholds = [Threshold(value=value, color=color) for value, color in pairs]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(thresholds)


def number(title, description, expression, unit, thresholds, legend=""):
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .with_target(query(expression, legend, instant=True))
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .unit(unit)
        .thresholds(thresholds)
        .height(5)
        .span(6)
    )


def lines(title, description, unit, *queries):
    panel = timeseries.Panel().title(title).description(description).datasource(SOURCE).unit(unit).min(0).height(8).span(12)
    panel = panel.legend(VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True))
    for made in queries:
        panel = panel.with_target(made)
    return panel


def rate(metric, labels, by):
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantile(of, metric, labels, by="le"):
    return f"histogram_quantile({of}, sum by ({by}) (rate({metric}_bucket{{{labels}}}[$__rate_interval])))"


def build():
    failures = f'sum(rate(redlockd_http_requests_total{{{LOCKS}, status=~"5.."}}[5m])) / sum(rate(redlockd_http_requests_total{{{LOCKS}}}[5m]))'
    return (
        dashboard.Dashboard("redlockd")
        .uid("redlockd")
        .tags(["redlockd", "locks"])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("job")
            .label("Job")
            .datasource(SOURCE)
            .query("label_values(redlockd_build_info, job)")
            .multi(True)
            .include_all(True)
        )
        .with_row(dashboard.Row("Is it healthy?"))
        .with_panel(
            number(
                "Nodes that may still fail",
                "Voting nodes beyond the majority, by the gateway that sees the fewest. Below 0 no lock can be had.",
                f"min(redlockd_nodes_voting{{{JOB}}} - redlockd_nodes_required{{{JOB}}})",
                "none",
                steps((None, "red"), (0, "orange"), (1, "green")),
            )
        )
        .with_panel(
            number(
                "Failed requests",
                "Share of requests for locks that were answered with 5xx in the last five minutes.",
                f"({failures}) or vector(0)",
                "percentunit",
                steps((None, "green"), (0.001, "orange"), (0.01, "red")),
            )
        )
        .with_panel(
            number(
                "Acquire and release, p99",
                "Time to answer a request for a lock, in the last five minutes.",
                f"histogram_quantile(0.99, sum by (le) (rate(redlockd_http_request_duration_seconds_bucket{{{LOCKS}}}[5m])))",
                "s",
                steps((None, "green"), (0.05, "orange"), (0.25, "red")),
            )
        )
        .with_panel(
            number(
                "Unsafe findings",
                "What makes a promise void, by the rules of redlockd doctor. GET /nodes says what it is.",
                f'max(sum by (instance) (redlockd_findings{{{JOB}, severity="unsafe"}})) or vector(0)',
                "none",
                steps((None, "green"), (1, "red")),
            )
        )
        .with_panel(
            lines(
                "Requests",
                "Answers to requests for locks, by status. 423 is a lock that another holds.",
                "reqps",
                query(rate("redlockd_http_requests_total", LOCKS, "method, status"), "{{method}} {{status}}"),
            )
        )
        .with_panel(
            lines(
                "How long requests take",
                "From the head of a request to the head of its answer.",
                "s",
                query(quantile(0.5, "redlockd_http_request_duration_seconds", LOCKS, "le, method"), "{{method}} p50"),
                query(quantile(0.99, "redlockd_http_request_duration_seconds", LOCKS, "le, method"), "{{method}} p99"),
            )
        )
        .with_row(dashboard.Row("What is contended?"))
        .with_panel(
            lines(
                "Outcomes of acquires",
                "granted, replayed (a repeat), locked (by another), no_quorum, indeterminate.",
                "ops",
                query(rate("redlockd_operations_total", f'{JOB}, operation="acquire"', "outcome"), "{{outcome}}"),
            )
        )
        .with_panel(
            lines(
                "Rounds",
                "Second rounds come from clocks that disagree or from many who want one lock at once; widened acquires from nodes that refuse or are slow.",
                "ops",
                query(rate("redlockd_acquire_rounds_total", JOB, "job"), "rounds"),
                query(rate("redlockd_acquire_second_rounds_total", JOB, "job"), "second rounds"),
                query(rate("redlockd_acquire_widened_total", JOB, "job"), "widened"),
            )
        )
        .with_panel(
            lines(
                "Other operations",
                "Extends, releases and inspections, by outcome.",
                "ops",
                query(rate("redlockd_operations_total", f'{JOB}, operation!="acquire"', "operation, outcome"), "{{operation}} {{outcome}}"),
            )
        )
        .with_panel(
            lines(
                "Who was not let in",
                "Requests without a token, with an unknown one, or with one that does not allow what it asked.",
                "reqps",
                query(f"{rate('redlockd_auth_refusals_total', JOB, 'reason')} or vector(0)", "{{reason}}"),
            )
        )
        .with_panel(
            lines(
                "Leases",
                "That gateways granted and that are neither released by them nor over.",
                "none",
                query(f"sum by (instance) (redlockd_leases_held{{{JOB}}})", "{{instance}}"),
            )
        )
        .with_panel(
            lines(
                "How long leases are held",
                "From the grant to the release. Those that run out are counted beside it: their holders died, or gave no thought to releasing.",
                "s",
                query(quantile(0.5, "redlockd_lease_hold_duration_seconds", JOB), "p50"),
                query(quantile(0.99, "redlockd_lease_hold_duration_seconds", JOB), "p99"),
                query(f"sum(rate(redlockd_leases_run_out_total{{{JOB}}}[$__rate_interval]))", "run out in a second"),
            )
        )
        .with_row(dashboard.Row("How are the nodes?"))
        .with_panel(
            number(
                "Up",
                "1: every gateway can use the node. 0: one at least can't; GET /nodes says why.",
                f"min by (node) (redlockd_node_up{{{JOB}}})",
                "none",
                steps((None, "red"), (1, "green")),
                legend="{{node}}",
            )
        )
        .with_panel(
            number(
                "Quarantined",
                "1: the node may have forgotten locks. It votes again by itself, when every lease that it may have known is over.",
                f"max by (node) (redlockd_node_quarantined{{{JOB}}})",
                "none",
                steps((None, "green"), (1, "orange")),
                legend="{{node}}",
            )
        )
        .with_panel(
            lines(
                "Votes per node",
                "What nodes answer. accepted is a yes; silent and unreachable are no answer.",
                "ops",
                query(rate("redlockd_node_votes_total", JOB, "node, vote") + " > 0", "{{node}} {{vote}}"),
            )
        )
        .with_panel(
            lines(
                "Who is slow? Batches, p99",
                "Time from sending a batch of commands to a node to its answer.",
                "s",
                query(quantile(0.99, "redlockd_node_batch_duration_seconds", JOB, "le, node"), "{{node}}"),
            )
        )
        .with_panel(
            lines(
                "Round trip of probes",
                "A probe goes to every node each half second.",
                "s",
                query(f"max by (node) (redlockd_node_latency_seconds{{{JOB}}})", "{{node}}"),
            )
        )
        .with_panel(
            lines(
                "Clock offsets",
                "How far each node's clock is from the median. Beyond clock_window a node refuses every acquire.",
                "s",
                query(f"max by (node) (abs(redlockd_node_clock_offset_seconds{{{JOB}}}))", "{{node}}"),
            )
        )
        .with_panel(
            lines(
                "Faults",
                "Calls to a node that were not answered.",
                "ops",
                query(rate("redlockd_node_faults_total", JOB, "node"), "{{node}}"),
            )
        )
        .with_panel(
            lines(
                "Connections to nodes",
                "For votes, by whether one is in use. All of them busy all the time means that node_concurrency is the bound.",
                "none",
                query(f"sum by (node, state) (redlockd_node_connections{{{JOB}}})", "{{node}} {{state}}"),
            )
        )
        .with_row(dashboard.Row("How are the gateways?"))
        .with_panel(
            lines(
                "CPU",
                "Of each gateway, in cores.",
                "none",
                query(f"rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval]) and on (instance) redlockd_build_info", "{{instance}}"),
            )
        )
        .with_panel(
            lines(
                "Memory",
                "Resident, of each gateway.",
                "bytes",
                query(f"process_resident_memory_bytes{{{JOB}}} and on (instance) redlockd_build_info", "{{instance}}"),
            )
        )
        .with_panel(
            lines(
                "Requests in flight",
                "That are being worked on.",
                "none",
                query(f"redlockd_http_requests_in_flight{{{JOB}}}", "{{instance}}"),
            )
        )
        .with_panel(
            lines(
                "Connections of clients",
                "That are open.",
                "none",
                query(f"redlockd_connections{{{JOB}}}", "{{instance}}"),
            )
        )
        .with_panel(
            lines(
                "Bounds that were reached",
                "Requests and connections over a bound, and TLS handshakes that failed.",
                "ops",
                query(f"{rate('redlockd_limits_hit_total', JOB, 'limit')} or vector(0)", "{{limit}}"),
                query(f"{rate('redlockd_tls_refusals_total', JOB, 'reason')} or vector(0)", "TLS {{reason}}"),
            )
        )
        .with_panel(
            lines(
                "Undoing",
                "Cancels and releases that wait for a node to be reached.",
                "none",
                query(f"redlockd_undo_waiting{{{JOB}}}", "{{instance}}"),
            )
        )
    )


def named(made):
    """Numbers for the panels and letters for their queries, which Grafana tells them apart by."""
    for number, panel in enumerate(made.panels, 1):
        panel.id_val = number
        for letter, target in zip("ABCDEF", getattr(panel, "targets", None) or []):
            target.ref_id = letter
    return made


if __name__ == "__main__":
    print(JSONEncoder(sort_keys=True, indent=2).encode(named(build().build())))
