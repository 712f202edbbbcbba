//! k6's output files, so that what reads them today goes on working.
//!
//! * [`JsonStream`] writes `--out json=FILE`: a line for every point of every metric.
//! * [`Summary`] is what `--summary-export FILE` writes and `handleSummary` is given.
//!
//! A file has its name only once it is whole: until then it is written beside it, and what
//! was not finished is removed.
//!
//! # The stream, where it is not as k6's
//! Each metric is declared before its first point, points come by request and by iteration,
//! in k6's order, with k6's tags, types and units. These differ:
//!
//! * `http_req_blocked` is all that passes from the *intended* start until sending begins,
//!   the generator's lag included; k6 knows no intended start. So `http_req_blocked` and
//!   `http_req_duration` together are the latency that thresholds judge.
//! * `url` is the endpoint's name, as k6 writes it for a request with a `name` tag.
//! * An arrival of the open model is an iteration of one request.
//! * `vus` are the requests in flight and `vus_max` their bound, where nobody simulates users.
//! * `data_received` are the answers' bodies, not every byte on the wire, as k6 has it.
//! * Times are written in UTC; k6 writes the zone it runs in. Numbers are never written with
//!   an exponent.
//! * Several dropped arrivals may be one point of that value; k6 writes one each.
//! * `group` is always the root, `""`. Never written: `service`, `subproto`, `metadata`,
//!   `group_duration`, metrics of WebSocket, gRPC and the browser.
//! * Thresholds stand with the metric as they were written, those in our own words too
//!   (`p(99)<100ms`). Submetrics are listed in the order of the thresholds.
//!
//! [`Logged`] makes it of a run's raw log, which knows less than the stream can say:
//!
//! * `http_req_waiting` is from when a request was set about to the end of its answer, a
//!   connection that had to be made included; `http_req_connecting`, `_tls_handshaking`,
//!   `_sending` and `_receiving` are 0.
//! * Each request is one check, `a good answer`, as thresholds take it.
//! * Left out: `data_sent` and `tls_version`; of a closed model iterations, and `vus` are as
//!   many as its profile plans.
//!
//! # The summary, where it is not as k6's
//! It is made of a load result, which knows less than the stream.
//!
//! * Left out, for want of numbers: `vus`, `vus_max`, `iteration_duration`, `data_sent`,
//!   `http_req_blocked`, `_connecting`, `_tls_handshaking`, `_sending`, `_waiting`,
//!   `_receiving`; of a closed model `iterations`; where an answer was unexpected,
//!   `http_req_duration{expected_response:true}`. The root group lists no checks.
//! * Times are from the intended start, and percentiles are not interpolated:
//!   [`threshold`](crate::threshold) says how both are taken.
//! * `checks` takes each request for one check, and `data_received` counts bodies.
//! * A threshold without samples is not `ok`.
//! * `error_share` stands among the metrics where a threshold is of it.

mod error;
mod file;
mod logged;
mod metric;
mod request;
mod stream;
mod summary;

pub use error::{NotStreamed, OutputError};
pub use logged::Logged;
pub use request::{Check, Ending, Failure, Iteration, Protocol, Sample, Timings, TlsVersion};
pub use stream::JsonStream;
pub use summary::Summary;
