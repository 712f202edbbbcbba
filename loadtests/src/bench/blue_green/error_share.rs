//! What users have seen lately, for Argo Rollouts to ask: where it runs in the cluster, the
//! benchmark tells it on the gateway of the nodes' network.

use std::net::IpAddr;
use std::time::Duration;

use harness::prober::Counted;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::traffic::Traffic;
use crate::bench::error::BenchError;

/// For one who asks to do so.
const ANSWERING: Duration = Duration::from_secs(1);

/// Tells how many requests there were since it was asked last, and how many of them failed.
pub struct ErrorShare {
    listener: TcpListener,
    /// Where it is asked.
    pub url: String,
}

impl ErrorShare {
    /// Takes a port of this address.
    pub async fn listen(address: IpAddr) -> Result<ErrorShare, std::io::Error> {
        let listener = TcpListener::bind((address, 0)).await?;
        let url = format!("http://{}/", listener.local_addr()?);
        Ok(ErrorShare { listener, url })
    }

    /// Tells of `traffic` while `work` goes on.
    pub async fn told_during<T>(
        &self,
        traffic: &Traffic,
        work: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, BenchError> {
        tokio::select! {
            done = work => done,
            failed = self.tell(|| traffic.so_far()) => {
                Err(BenchError::release("telling the error share")(failed))
            }
        }
    }

    /// Until it cannot be asked any more: why.
    async fn tell(&self, so_far: impl Fn() -> Counted) -> std::io::Error {
        let mut last = so_far();
        loop {
            let connection = match self.listener.accept().await {
                Ok((connection, _)) => connection,
                Err(error) => return error,
            };
            let now = so_far();
            let told = json!({
                "requests": now.good + now.failed - last.good - last.failed,
                "failed": now.failed - last.failed,
            });
            last = now;
            // One that goes away before it is answered, or asks nothing, asks again.
            let _ = timeout(ANSWERING, answer(connection, &told.to_string())).await;
        }
    }
}

/// Whatever is asked, and once for each connection.
async fn answer(mut connection: TcpStream, told: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(&mut connection).lines();
    while lines
        .next_line()
        .await?
        .is_some_and(|line| !line.is_empty())
    {}
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{told}",
        told.len()
    );
    connection.write_all(answer.as_bytes()).await?;
    connection.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn each_is_told_what_happened_since_the_last() {
        let it = ErrorShare::listen(IpAddr::from([127, 0, 0, 1])).await;
        let it = it.unwrap();
        let good = Cell::new(100);
        let so_far = || Counted {
            good: good.get(),
            failed: good.get() / 10,
            ..Counted::default()
        };
        let ask = async || {
            let answer = reqwest::get(&it.url).await.unwrap();
            let text = answer.text().await.unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        let asked = async {
            good.set(300);
            let first = ask().await;
            let second = ask().await;
            good.set(310);
            [first, second, ask().await]
        };
        let told = tokio::select! {
            // It listens before it is asked.
            biased;
            failed = it.tell(so_far) => panic!("{failed}"),
            told = asked => told,
        };
        let expected = [(220, 20), (0, 0), (11, 1)];
        let expected = expected.map(|(all, failed)| json!({"requests": all, "failed": failed}));
        assert_eq!(told, expected);
    }
}
