//! Requests that failed because the machine was too slow for them.

use kubernetes::prober::{Recording, RequestOutcome};

/// Returns why failed requests are no evidence against the platform: all of them timed out, and a
/// prober fell behind, so the machine may have been too slow for the answers too.
pub fn no_evidence(recordings: &[Recording]) -> Option<String> {
    let fell_behind = Recording::any_inconclusive(recordings)?;
    let answers = recordings.iter().flat_map(|it| &it.answers);
    let mut failed = answers.filter(|it| it.failed()).peekable();
    failed.peek()?;
    let is_late = |outcome: &RequestOutcome| matches!(outcome, RequestOutcome::TimedOut);
    failed
        .all(|it| is_late(&it.outcome))
        .then(|| format!("requests timed out while the machine was too slow: {fell_behind}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubernetes::prober::{Answer, Vantage};

    use super::*;

    /// A recording of a prober that did not report its lag.
    fn recording(outcomes: &[RequestOutcome]) -> [Recording; 1] {
        let answers = outcomes.iter().map(|outcome| Answer {
            lane: Arc::from("pooled"),
            intended: 0,
            sent_after: 0,
            took: 1,
            good: matches!(outcome, RequestOutcome::Status(200)),
            outcome: outcome.clone(),
            by: None,
            on: None,
        });
        [Recording {
            from: Vantage::Outside,
            answers: answers.collect(),
            began: 0,
            ended: 0,
            lag: None,
            lost: 0,
            clock: None,
        }]
    }

    #[test]
    fn only_timeouts_are_explained_by_a_slow_machine() {
        let (good, late) = (RequestOutcome::Status(200), RequestOutcome::TimedOut);
        assert!(no_evidence(&recording(&[good.clone(), late.clone()])).is_some());
        assert_eq!(no_evidence(&recording(&[good])), None);
        assert_eq!(
            no_evidence(&recording(&[late, RequestOutcome::Reset])),
            None
        );
    }
}
