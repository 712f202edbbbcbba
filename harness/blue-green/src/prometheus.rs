//! Users' requests as Prometheus counts them: queries whose results are counters.
//! <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::colour::Colour;
use super::objects::ServiceObjects;
use super::proxy;
use super::traffic::exposition::Sample;
use super::traffic::{Counter, Query};

/// Prometheus' Service and the queries: `[blue_green.prometheus]` of `harness.toml`. In a query,
/// `{namespace}`, `{service}` and `{colour}` are replaced by those of the release. Each result is a
/// vector of counters with a label `pod`: a pod that restarts counts from zero.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prometheus {
    /// The namespace of its Service.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The Service's port, by number or name.
    pub port: String,
    /// The query for answered requests.
    pub requests: String,
    /// The query for requests that the service failed.
    pub errors: String,
    /// The query for durations: the buckets of a histogram, in seconds.
    pub durations: String,
}

impl Query {
    const ALL: [Query; 3] = [Query::Requests, Query::Errors, Query::Durations];

    fn name(self) -> &'static str {
        match self {
            Query::Requests => "requests",
            Query::Errors => "errors",
            Query::Durations => "durations",
        }
    }
}

impl Prometheus {
    /// Returns a query for this service and colour.
    fn text(&self, query: Query, objects: &ServiceObjects<'_>, colour: Colour) -> String {
        let text = match query {
            Query::Requests => &self.requests,
            Query::Errors => &self.errors,
            Query::Durations => &self.durations,
        };
        text.replace("{namespace}", &objects.cluster.namespace)
            .replace("{service}", objects.service)
            .replace("{colour}", colour.name())
    }
}

/// The answer to a query.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum QueryAnswer {
    Success { data: Data },
    Error { error: String },
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Element>),
    Matrix(serde::de::IgnoredAny),
    Scalar(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Element {
    metric: BTreeMap<String, String>,
    /// The time, and the value as text.
    value: (f64, String),
}

/// Reads Prometheus' counters of a colour's requests.
///
/// # Errors
/// The failed query and the cause.
pub(super) async fn counters(
    prometheus: &Prometheus,
    objects: &ServiceObjects<'_>,
    colour: Colour,
    within: Duration,
) -> Result<Vec<Counter>, String> {
    let (client, namespace) = (objects.cluster.client(), &prometheus.namespace);
    let target = format!("services/{}:{}", prometheus.service, prometheus.port);
    let counters = Query::ALL.map(async |query| {
        let text = prometheus.text(query, objects, colour);
        let text = utf8_percent_encode(&text, NON_ALPHANUMERIC);
        let path = format!("/api/v1/query?query={text}");
        let answer = proxy::get_text(client, namespace, &target, &path, within).await;
        let counters = answer.and_then(|answer| read(query, &answer));
        counters.map_err(|why| format!("Prometheus does not answer `{}`: {why}", query.name()))
    });
    Ok(try_join_all(counters).await?.concat())
}

fn read(query: Query, answer: &str) -> Result<Vec<Counter>, String> {
    let elements = match serde_json::from_str(answer).map_err(|error| error.to_string())? {
        QueryAnswer::Success {
            data: Data::Vector(elements),
        } => elements,
        QueryAnswer::Success { .. } => return Err("its result is no instant vector".to_owned()),
        QueryAnswer::Error { error } => return Err(error),
    };
    let counters = elements.iter().map(|element| {
        let (_, value) = &element.value;
        let labels = element.metric.iter();
        let sample = Sample {
            name: query.name(),
            labels: labels
                .map(|(k, v)| (k.as_str(), v.as_str().into()))
                .collect(),
            value: value.parse().map_err(|_| format!("a value is {value:?}"))?,
        };
        Counter::of(query, &sample)
    });
    counters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_is_no_vector_of_counters_is_refused() {
        for (answer, why) in [
            (
                r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#,
                "parse error",
            ),
            (
                r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#,
                "no instant vector",
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1,"NaN"]}]}}"#,
                "has the value NaN",
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1,"-1"]}]}}"#,
                "has the value -1",
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"3"]}]}}"#,
                "label `pod`",
            ),
            ("<html>", "expected value"),
        ] {
            let error = read(Query::Requests, answer).unwrap_err();
            assert!(error.contains(why), "{answer}: {error}");
        }
    }

    #[test]
    fn a_bucket_needs_its_bound() {
        let answer = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1,"3"]}]}}"#;
        assert!(read(Query::Durations, answer).unwrap_err().contains("le="));
        assert_eq!(read(Query::Requests, answer).unwrap().len(), 1);
    }
}
