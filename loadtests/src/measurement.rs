//! What a load run measured, for the charts of a report.

use base::run::load::{
    BlockValues, CURVES_AT_MOST, EndpointMeasurement, FAILURES_AT_MOST, FailureCount,
    GeneratorHealth, Limit, Limited, LoadMeasurement, Percentiles,
};

use crate::result::{Block, Distribution, LoadResult};
use crate::threshold::{Metric, MetricKind, ThresholdResult};

/// Points of the percentile curve for each decade of 1 / (1 - quantile).
const POINTS_PER_DECADE: u32 = 8;
/// To the percentile 99.99.
const DECADES: u32 = 4;

/// Returns the measurements of a result. `asked` are the arrivals that the profile asks for in each
/// block.
pub fn of(result: &LoadResult, asked: Vec<f64>, verdicts: &[ThresholdResult]) -> LoadMeasurement {
    let numbers = 0..result.blocks();
    let in_block = |number| -> Block {
        let endpoints = result.endpoints.values();
        endpoints.filter_map(|it| it.blocks.get(&number)).sum()
    };
    let blocks = values(numbers.clone().map(in_block));
    let endpoints = result.endpoints.iter();
    let mut endpoints: Vec<_> = endpoints
        .map(|(name, it)| (endpoint(name, &it.whole(), None), it))
        .collect();
    endpoints.sort_by_key(|(it, _)| std::cmp::Reverse(it.requests));
    for (measured, endpoint) in endpoints.iter_mut().take(CURVES_AT_MOST) {
        let block = |number| endpoint.blocks.get(&number).cloned().unwrap_or_default();
        measured.blocks = Some(values(numbers.clone().map(block)));
    }
    LoadMeasurement {
        versions: result.fingerprint.versions.clone(),
        block_millis: result.block_millis,
        asked,
        whole: endpoint("", &result.whole(), Some(blocks)),
        endpoints: endpoints.into_iter().map(|(it, _)| it).collect(),
        failures: failures(result),
        generator: GeneratorHealth {
            cores_used: result.generator.cores_used,
            cores: result.generator.cores,
            lag: percentiles(&result.generator.lag),
            bottleneck: result.generator.bottleneck.clone(),
        },
        limits: verdicts.iter().filter_map(|it| limit(it, result)).collect(),
        ..LoadMeasurement::default()
    }
}

fn endpoint(name: &str, whole: &Block, blocks: Option<BlockValues>) -> EndpointMeasurement {
    EndpointMeasurement {
        name: name.to_owned(),
        requests: whole.requests,
        failed: whole.failed,
        dropped: whole.dropped,
        latency: percentiles(&whole.latency),
        blocks,
    }
}

fn values(blocks: impl Iterator<Item = Block>) -> BlockValues {
    let mut values = BlockValues::default();
    for block in blocks {
        values.arrivals.push(block.arrivals);
        values.requests.push(block.requests);
        values.failed.push(block.failed);
        values.dropped.push(block.dropped);
        let times = block.latency.histogram();
        let at = |quantile| (!times.is_empty()).then(|| times.value_at_quantile(quantile));
        values.p50.push(at(0.5));
        values.p95.push(at(0.95));
        values.p99.push(at(0.99));
    }
    values
}

fn percentiles(times: &Distribution) -> Option<Percentiles> {
    let times = times.histogram();
    if times.is_empty() {
        return None;
    }
    let points = 0..=DECADES * POINTS_PER_DECADE;
    // One in `rare` requests is slower than the percentile.
    let rare = points.map(|point| 10f64.powf(f64::from(point) / f64::from(POINTS_PER_DECADE)));
    let seen = rare.take_while(|rare| *rare <= times.len() as f64);
    let curve = seen.map(|rare| {
        let quantile = 1.0 - 1.0 / rare;
        let percentile = (quantile * 1e6).round() / 1e4;
        (percentile, times.value_at_quantile(quantile))
    });
    Some(Percentiles {
        p50: times.value_at_quantile(0.5),
        p95: times.value_at_quantile(0.95),
        p99: times.value_at_quantile(0.99),
        max: times.max(),
        curve: curve.collect(),
    })
}

fn failures(result: &LoadResult) -> Vec<FailureCount> {
    let endpoints = result.endpoints.iter();
    let failures = endpoints.flat_map(|(name, endpoint)| {
        let failures = endpoint.failures.iter();
        failures.map(|(reason, count)| FailureCount {
            endpoint: name.clone(),
            reason: reason.clone(),
            count: *count,
        })
    });
    let mut failures: Vec<_> = failures.collect();
    failures.sort_by_key(|it| std::cmp::Reverse(it.count));
    failures.truncate(FAILURES_AT_MOST);
    failures
}

/// Returns the line of a threshold: of times, or of the share of failures.
fn limit(verdict: &ThresholdResult, result: &LoadResult) -> Option<Limit> {
    let threshold = &verdict.threshold;
    let number = threshold.expression.limit;
    let (of, limit) = match threshold.metric {
        metric if metric.kind() == MetricKind::Trend => (Limited::Latency, number * 1000.0),
        Metric::Failed | Metric::ErrorShare => (Limited::Failures, number),
        Metric::Checks => (Limited::Failures, 1.0 - number),
        _ => return None,
    };
    let selector = &threshold.selector;
    let selected: Vec<String> = result
        .endpoints
        .keys()
        .filter(|name| selector.selects(name))
        .cloned()
        .collect();
    Some(Limit {
        threshold: threshold.to_string(),
        endpoints: match selected.len() == result.endpoints.len() {
            true => Vec::new(),
            false => selected,
        },
        of,
        limit,
        holds: verdict.holds(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regression::simulated_result;
    use crate::result::{Endpoint, Generator};
    use crate::threshold::{Threshold, evaluate_all};

    /// Two endpoints, of which the second starts a block later and fails in it.
    fn result() -> LoadResult {
        let block = |requests: u64, failed: u64, dropped: u64| Block {
            requests,
            arrivals: requests,
            failed,
            dropped,
            latency: (1..=requests).map(|n| 1_000 * n).collect(),
            ..Block::default()
        };
        let quotes = Endpoint {
            blocks: [(0, block(100, 0, 0)), (1, block(50, 0, 0))].into(),
            ..Endpoint::default()
        };
        let order = Endpoint {
            blocks: [(1, block(20, 3, 7))].into(),
            failures: [
                ("status 500".to_owned(), 1),
                ("check: a price".to_owned(), 2),
            ]
            .into(),
            ..Endpoint::default()
        };
        LoadResult {
            endpoints: [
                ("POST /orders".to_owned(), order),
                ("GET /quotes".to_owned(), quotes),
            ]
            .into(),
            generator: Generator {
                lag: [10, 20].into_iter().collect(),
                ..simulated_result().generator
            },
            ..simulated_result()
        }
    }

    fn measured(thresholds: &[&str]) -> LoadMeasurement {
        let result = result();
        let thresholds: Vec<Threshold> = thresholds.iter().map(|it| it.parse().unwrap()).collect();
        of(
            &result,
            vec![100.0, 77.0],
            &evaluate_all(&thresholds, &result),
        )
    }

    #[test]
    fn blocks_add_up_over_all_endpoints_and_have_gaps_without_requests() {
        let measured = measured(&[]);
        let whole = measured.whole.blocks.unwrap();
        assert_eq!(whole.requests, [100, 70]);
        assert_eq!((whole.failed, whole.dropped), (vec![0, 3], vec![0, 7]));
        assert_eq!(whole.p50[0], Some(50_015));
        let names: Vec<_> = measured.endpoints.iter().map(|it| &it.name).collect();
        assert_eq!(names, ["GET /quotes", "POST /orders"]);
        let orders = measured.endpoints[1].blocks.as_ref().unwrap();
        assert_eq!((orders.p99[0], orders.requests[0]), (None, 0));
        let failures = measured.failures.iter();
        let failures: Vec<_> = failures.map(|it| (it.reason.as_str(), it.count)).collect();
        assert_eq!(failures, [("check: a price", 2), ("status 500", 1)]);
        assert_eq!(measured.generator.lag.unwrap().max, 20);
    }

    #[test]
    fn the_curve_ends_where_the_requests_are_too_few() {
        let curve = measured(&[]).whole.latency.unwrap().curve;
        let last = curve.last().unwrap();
        // The next point is where one of 178 is slower.
        assert_eq!(last.0, 99.2501);
        assert!(curve.is_sorted());
        let many: Distribution = (0..20_000).collect();
        let curve = percentiles(&many).unwrap().curve;
        assert_eq!(curve.len(), 33);
        assert_eq!(curve[32].0, 99.99);
    }

    #[test]
    fn thresholds_of_times_and_failures_are_limits() {
        let limits = measured(&[
            "http_req_duration: p(95)<500",
            "http_req_duration{name:GET /quotes}: p(95)<1",
            "http_req_failed: rate<0.01",
            "checks: rate>0.75",
            "http_reqs: count>10",
        ])
        .limits;
        let lines: Vec<_> = limits
            .iter()
            .map(|it| (it.of, it.limit, it.holds))
            .collect();
        assert_eq!(
            lines,
            [
                (Limited::Latency, 500_000.0, true),
                (Limited::Latency, 1_000.0, false),
                (Limited::Failures, 0.01, true),
                (Limited::Failures, 0.25, true),
            ]
        );
        assert_eq!(limits[1].endpoints, ["GET /quotes"]);
        assert!(limits[0].endpoints.is_empty());
    }
}
