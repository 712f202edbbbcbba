//! k6's output files, for the tools that read them.
//!
//! * [`JsonStream`] writes `--out json=FILE`: a line for every point of every metric.
//! * [`Summary`] is what `--summary-export FILE` writes, the argument of `handleSummary`, and the
//!   text that k6 prints at the end.
//!
//! A file gets its name only when it is complete. An unfinished file is removed.
//!
//! # Differences of the stream to k6's
//! Each metric is declared before its first point; points come by request and by iteration, in k6's
//! order, with k6's tags, types and units. These differ:
//!
//! * `http_req_blocked` is the time from the *intended* start until sending begins, with the
//!   generator's lag; k6 has no intended start. So `http_req_blocked` and `http_req_duration`
//!   together are the latency that thresholds use.
//! * `url` is the endpoint's name, as k6 writes it for a request with a `name` tag.
//! * An arrival of the open model is an iteration; its `iteration_duration` is that of its first
//!   request.
//! * Without simulated users, `vus` are the requests in flight and `vus_max` their limit.
//! * `data_received` counts the bodies of answers; k6 counts every byte on the wire.
//! * Times are in UTC; k6 uses the local time zone. Numbers never have an exponent.
//! * Several dropped arrivals may be one point with that value; k6 writes a point for each.
//! * `group` is always the root, `""`. Never written: `service`, `subproto`, `metadata`,
//!   `group_duration`, metrics of WebSocket, gRPC and the browser.
//! * Thresholds are listed with their metric as they were written, also in the form of the harness
//!   (`p(99)<100ms`). Submetrics are in the order of the thresholds.
//!
//! [`StreamFromLog`] writes it from a run's raw log, which has less detail:
//!
//! * `http_req_waiting` is the time from a request's start to the end of its answer, including a
//!   new connection; `http_req_connecting`, `_tls_handshaking`, `_sending` and `_receiving` are 0.
//! * Each request is one check, `a good answer`, as for thresholds.
//! * Left out: `data_sent` and `tls_version`; in a closed model iterations, and `vus` are the users
//!   that its profile plans.
//!
//! # Differences of the summary to k6's
//! It is written from a load result, which has less detail than the stream.
//!
//! * Left out, as not measured: `vus`, `vus_max`, `iteration_duration`, `data_sent`,
//!   `http_req_blocked`, `_connecting`, `_tls_handshaking`, `_sending`, `_waiting`,
//!   `_receiving`; in a closed model `iterations`; if an answer was unexpected,
//!   `http_req_duration{expected_response:true}`. The root group lists no checks.
//! * Times count from the intended start, and percentiles are not interpolated; see
//!   [`threshold`](crate::threshold).
//! * `checks` counts each request as one check, and `data_received` counts bodies.
//! * A threshold without samples is not `ok`.
//! * `error_share` is among the metrics if it has a threshold.
//! * The text has one check, `a good answer`, and no section of thresholds, groups or scenarios.

mod error;
mod file;
mod from_log;
mod metric;
mod request;
mod stream;
mod summary;

pub use error::{OutputError, StreamError};
pub use from_log::StreamFromLog;
pub use request::{
    CheckSample, Iteration, Protocol, RequestEnd, RequestFailure, RequestSample, Timings,
    TlsVersion,
};
pub use stream::JsonStream;
pub use summary::Summary;
