//! Work that tells what it does by a plain function, followed by somebody who awaits.

use std::pin::pin;

use tokio::sync::mpsc;

/// Does `work`, and passes on what it tells meanwhile.
pub(super) async fn relayed<T>(
    work: impl AsyncFnOnce(&(dyn Fn(&str) + Sync)) -> T,
    mut tell: impl AsyncFnMut(String),
) -> T {
    let (sender, mut told) = mpsc::unbounded_channel();
    let progress = move |text: &str| {
        // Nobody listens once the work is done.
        let _ = sender.send(text.to_owned());
    };
    let mut work = pin!(work(&progress));
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(text) = told.recv() => tell(text).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_arrives_in_its_order_and_before_the_end() {
        let mut heard = Vec::new();
        let done = relayed(
            async |progress: &(dyn Fn(&str) + Sync)| {
                for text in ["one", "two"] {
                    progress(text);
                    tokio::task::yield_now().await;
                }
                3
            },
            async |text: String| heard.push(text),
        );
        assert_eq!(done.await, 3);
        assert_eq!(heard, ["one", "two"]);
    }
}
