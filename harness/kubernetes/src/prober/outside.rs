//! A prober in this process, in front of the ingress.

use std::io;

use ::prober::{ProbeTarget, ProberError, Probing, Recording, RequestCounts, Spec, Vantage, start};
use tokio::task::JoinHandle;

use super::Answers;
use base::entry_point::EntryPoint;

/// The answers that are taken at a time.
const BATCH: usize = 256;

/// Returns the target for `path` of `host`, which `entry` leads to.
///
/// # Errors
/// The certificate of the authority cannot be read.
pub fn through(entry: &EntryPoint, host: &str, path: &str) -> io::Result<ProbeTarget> {
    let authority = entry.authority.as_ref();
    Ok(ProbeTarget {
        url: format!("{}{path}", entry.url(host)),
        connect: entry.address.map(|address| address.to_string()),
        authority: authority.map(std::fs::read_to_string).transpose()?,
    })
}

/// A prober in front of the ingress. A drop stops it.
pub struct Outside {
    probing: Probing,
    seen: Answers,
    collecting: JoinHandle<()>,
}

impl Outside {
    /// Starts the requests.
    ///
    /// # Errors
    /// [`ProberError`].
    pub async fn start(spec: &Spec) -> Result<Outside, ProberError> {
        let (probing, mut answers) = start(spec).await?;
        let seen = Answers::default();
        let received = seen.clone();
        // Ends with the prober.
        let collecting = tokio::spawn(async move {
            let mut batch = Vec::new();
            while answers.recv_many(&mut batch, BATCH).await > 0 {
                received.add(batch.drain(..));
            }
        });
        Ok(Outside {
            probing,
            seen,
            collecting,
        })
    }

    /// Returns the number of requests so far, by outcome.
    pub fn so_far(&self) -> RequestCounts {
        self.probing.so_far()
    }

    /// Returns the answers so far.
    pub fn seen(&self) -> &Answers {
        &self.seen
    }

    /// Stops, and waits for requests in flight, at most the longest timeout of a lane.
    pub async fn end(self) -> Recording {
        self.probing.stop();
        // An error is a panic, which was printed already.
        let _ = self.collecting.await;
        Recording {
            from: Vantage::Outside,
            answers: self.seen.take(),
            began: self.probing.began(),
            ended: self.probing.now(),
            lag: Some(self.probing.ended().await),
            lost: 0,
            clock: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::prober::{Answer, IdentityHeaders, Lane, RequestOutcome};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use base::wait::{self, Observation};

    #[test]
    fn a_target_has_the_host_name_and_the_address() {
        let folder = tempfile::TempDir::new().unwrap();
        let authority = folder.path().join("ca.pem");
        std::fs::write(&authority, "a certificate").unwrap();
        let entry = EntryPoint::signed_by(authority.clone(), "127.0.0.1:8443".parse().unwrap());
        let target = through(&entry, "api.trii.co", "/market-data/quotes/ECOPETROL");
        let expected = ProbeTarget {
            url: "https://api.trii.co:8443/market-data/quotes/ECOPETROL".into(),
            connect: Some("127.0.0.1:8443".into()),
            authority: Some("a certificate".into()),
        };
        assert_eq!(target.unwrap(), expected);
        std::fs::remove_file(&authority).unwrap();
        assert!(through(&entry, "api.trii.co", "/").is_err());
    }

    #[tokio::test]
    async fn answers_are_recorded_and_counted_meanwhile() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let entry = EntryPoint::plain(listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                let _ = stream.write_all(answer).await;
            }
        });
        let target = through(&entry, "trii.co", "/").unwrap();
        let spec = Spec {
            lanes: vec![Lane::new_connection(target, 50.0)],
            seconds: 600.0,
            headers: IdentityHeaders::default(),
        };
        let outside = Outside::start(&spec).await.unwrap();
        let (deadline, pause) = (Duration::from_secs(20), Duration::from_millis(20));
        let some = wait::until("five answers", deadline, pause, async || {
            match outside.so_far().good {
                0..5 => Observation::NotYet(format!("{:?}", outside.so_far())),
                _ => Observation::Ready(()),
            }
        });
        some.await.unwrap();
        let recording = outside.end().await;
        server.abort();
        assert_eq!(recording.from, Vantage::Outside);
        assert!(recording.answers.len() >= 5 && recording.began < recording.ended);
        let all_good = |answer: &Answer| answer.outcome == RequestOutcome::Status(200);
        assert!(recording.answers.iter().all(all_good));
        assert_eq!(recording.lag.unwrap().due, recording.answers.len() as u64);
    }
}
