//! Users' requests as Prometheus has them: queries whose results are counters.
//! <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use hyper::Request;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::timeout;

use super::colour::Colour;
use super::objects::Objects;
use super::traffic::Counter;
use super::traffic::exposition::Sample;

/// Where Prometheus is, and what it is asked: `[blue_green.prometheus]` of `harness.toml`. In a
/// query `{namespace}`, `{service}` and `{colour}` stand for what is released. Each result is a
/// vector of counters with a label `pod`: a pod that starts again counts from zero.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prometheus {
    /// The namespace of its Service.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The Service's port, by number or name.
    pub port: String,
    /// Counts requests that were answered.
    pub requests: String,
    /// Counts those of them that the service failed.
    pub errors: String,
    /// Counts requests by how long they took: the buckets of a histogram, in seconds.
    pub durations: String,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Query {
    Requests,
    Errors,
    Durations,
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
    /// A query with what is released in it.
    fn text(&self, query: Query, objects: &Objects<'_>, colour: Colour) -> String {
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

/// What its answer is.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
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

/// What Prometheus has of a colour's requests now.
///
/// # Errors
/// Why it does not tell, with the query that it does not answer.
pub(super) async fn counters(
    prometheus: &Prometheus,
    objects: &Objects<'_>,
    colour: Colour,
    within: Duration,
) -> Result<Vec<Counter>, String> {
    let asked = Query::ALL.map(async |query| {
        let text = prometheus.text(query, objects, colour);
        let told = one(prometheus, objects, query, &text, within).await;
        told.map_err(|why| format!("Prometheus does not answer `{}`: {why}", query.name()))
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
}

async fn one(
    prometheus: &Prometheus,
    objects: &Objects<'_>,
    query: Query,
    text: &str,
    within: Duration,
) -> Result<Vec<Counter>, String> {
    let Prometheus {
        namespace,
        service,
        port,
        ..
    } = prometheus;
    let text = utf8_percent_encode(text, NON_ALPHANUMERIC);
    let uri = format!(
        "/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy/api/v1/query?query={text}"
    );
    let request = Request::get(uri).body(Vec::new());
    let request = request.map_err(|error| error.to_string())?;
    let asked = objects.cluster.client().request_text(request);
    let answer = timeout(within, asked).await;
    let answer = answer.map_err(|_| format!("no answer within {within:?}"))?;
    let answer = answer.map_err(|error| crate::chain(&error))?;
    read(query, &answer)
}

fn read(query: Query, answer: &str) -> Result<Vec<Counter>, String> {
    let elements = match serde_json::from_str(answer).map_err(|error| error.to_string())? {
        Answer::Success {
            data: Data::Vector(elements),
        } => elements,
        Answer::Success { .. } => return Err("its result is no instant vector".to_owned()),
        Answer::Error { error } => return Err(error),
    };
    let told = elements.iter().map(|element| {
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
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_vector_of_counters_is_refused() {
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
                "stands at NaN",
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1,"-1"]}]}}"#,
                "stands at -1",
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
