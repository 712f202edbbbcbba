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
        // Somebody listens for as long as the work is done.
        let _ = sender.send(text.to_owned());
    };
    let mut work = pin!(work(&progress));
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            Some(text) = told.recv() => tell(text).await,
        }
    };
    while let Ok(text) = told.try_recv() {
        tell(text).await;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_arrives_in_its_order_and_before_the_end() {
        let mut heard = Vec::new();
        let done = relayed(
            async |progress: &(dyn Fn(&str) + Sync)| {
                progress("one");
                tokio::task::yield_now().await;
                progress("two");
                progress("three");
                3
            },
            async |text: String| heard.push(text),
        );
        assert_eq!(done.await, 3);
        assert_eq!(heard, ["one", "two", "three"]);
    }
}
