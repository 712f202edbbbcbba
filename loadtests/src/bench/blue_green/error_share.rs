//! The users' recent error share, for the analysis of Argo Rollouts. The benchmark serves it on the
//! gateway of the nodes' network, which the cluster can reach.

use std::net::IpAddr;
use std::time::Duration;

use kubernetes::prober::RequestCounts;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::traffic::BenchTraffic;
use crate::bench::error::BenchError;

/// The timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves the number of requests since the last query, and how many of them failed.
pub struct ErrorShare {
    listener: TcpListener,
    /// The URL for queries.
    pub url: String,
}

impl ErrorShare {
    /// Listens on a port of this address.
    pub async fn listen(address: IpAddr) -> Result<ErrorShare, std::io::Error> {
        let listener = TcpListener::bind((address, 0)).await?;
        let url = format!("http://{}/", listener.local_addr()?);
        Ok(ErrorShare { listener, url })
    }

    /// Serves the error share of `traffic` during `work`.
    pub async fn serve_during<T>(
        &self,
        traffic: &BenchTraffic,
        work: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, BenchError> {
        tokio::select! {
            done = work => done,
            failed = self.serve(|| traffic.so_far()) => {
                Err(BenchError::release("serving the error share")(failed))
            }
        }
    }

    /// Serves until an error.
    async fn serve(&self, so_far: impl Fn() -> RequestCounts) -> std::io::Error {
        let mut last = so_far();
        loop {
            let connection = match self.listener.accept().await {
                Ok((connection, _)) => connection,
                Err(error) => return error,
            };
            let now = so_far();
            let body = json!({
                "requests": now.good + now.failed - last.good - last.failed,
                "failed": now.failed - last.failed,
            });
            last = now;
            // A client that disconnects or sends nothing tries again.
            let _ = timeout(REQUEST_TIMEOUT, answer(connection, &body.to_string())).await;
        }
    }
}

/// Answers any request, one for each connection.
async fn answer(mut connection: TcpStream, body: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(&mut connection).lines();
    while lines
        .next_line()
        .await?
        .is_some_and(|line| !line.is_empty())
    {}
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(answer.as_bytes()).await?;
    connection.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn each_response_covers_the_time_since_the_last() {
        let error_share = ErrorShare::listen(IpAddr::from([127, 0, 0, 1])).await;
        let error_share = error_share.unwrap();
        let good = Cell::new(100);
        let so_far = || RequestCounts {
            good: good.get(),
            failed: good.get() / 10,
            ..RequestCounts::default()
        };
        let query = async || {
            let answer = reqwest::get(&error_share.url).await.unwrap();
            let text = answer.text().await.unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        let queries = async {
            good.set(300);
            let first = query().await;
            let second = query().await;
            good.set(310);
            [first, second, query().await]
        };
        let responses = tokio::select! {
            biased;
            failed = error_share.serve(so_far) => panic!("{failed}"),
            responses = queries => responses,
        };
        let expected = [(220, 20), (0, 0), (11, 1)];
        let expected = expected.map(|(all, failed)| json!({"requests": all, "failed": failed}));
        assert_eq!(responses, expected);
    }
}
