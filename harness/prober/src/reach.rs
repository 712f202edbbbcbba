//! Whether there is a way to a target at all, before anything is measured.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::probing::StartError;
use crate::spec::Spec;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until every target takes a connection, for `patience` at most: what is refused
/// after that is for the lanes to tell.
///
/// # Errors
/// [`StartError::Spec`].
pub async fn reachable(spec: &Spec, patience: Duration) -> Result<(), StartError> {
    spec.check()?;
    let reaching = async {
        for lane in &spec.lanes {
            let Ok(parts) = lane.target.parts() else {
                continue;
            };
            let destination = lane.target.destination(&parts);
            while TcpStream::connect(&destination).await.is_err() {
                sleep(LOOK_EVERY).await;
            }
        }
    };
    // Too late or not, the lanes begin.
    let _ = timeout(patience, reaching).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::spec::{Lane, Target};

    fn spec(address: &str) -> Spec {
        let target = Target::of(format!("http://{address}/"));
        Spec {
            lanes: vec![Lane::new_connection(target, 1.0)],
            seconds: 1.0,
        }
    }

    #[tokio::test]
    async fn a_target_that_comes_late_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let later = tokio::spawn(async move {
            sleep(3 * LOOK_EVERY).await;
            TcpListener::bind(address).await.unwrap()
        });
        let begun = Instant::now();
        let patience = Duration::from_secs(20);
        reachable(&spec(&address.to_string()), patience)
            .await
            .unwrap();
        assert!(begun.elapsed() >= 3 * LOOK_EVERY);
        drop(later.await.unwrap());
    }

    #[tokio::test]
    async fn one_that_never_comes_is_not_waited_for_for_ever() {
        let patience = Duration::from_millis(250);
        let nobody = spec("127.0.0.1:1");
        reachable(&nobody, patience).await.unwrap();
    }
}
