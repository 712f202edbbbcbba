//! The effect of a release on users, by which version answered. It is the same for every contender.

use blue_green::analysis;
use kubernetes::prober::{Answer, Figures, FiguresByPhase, Moments, Phases, Recording};

#[derive(Clone, Debug, PartialEq)]
pub struct TrafficFigures {
    /// The figures of all their requests.
    pub figures: Figures,
    /// From the first answer of the new version to the last one of the old, in milliseconds; 0 if
    /// they do not overlap, none if one of the two never answered.
    pub switch: Option<f64>,
    /// From the first to the last bad answer of the new version, in milliseconds; none without any.
    pub revert: Option<f64>,
    /// The same, but from when its answers showed for certain that too many of them fail; 0 if it
    /// was rolled back before.
    pub once_measurable: Option<f64>,
    /// Why it is inconclusive, if so: the prober may have caused it.
    pub behind: Option<String>,
}

impl TrafficFigures {
    /// The figures of a recording during a release from `old` to `new`, of whose requests a share
    /// of `allowed` may fail.
    pub fn of(recording: &Recording, old: &str, new: &str, allowed: f64) -> TrafficFigures {
        // Only the whole recording is evaluated: the answers show when traffic moved.
        let moments = Moments {
            patch: recording.began,
            scale_down: None,
            old: old.to_owned(),
            new: new.to_owned(),
        };
        let phases = Phases::find(moments, &recording.answers);
        let whole = FiguresByPhase::of(phases, std::slice::from_ref(recording)).overall();
        let by = |version| {
            let answers = recording.answers.iter();
            answers.filter(move |it| it.version() == Some(version))
        };
        let last_failed = last(by(new).filter(|it| it.failed()));
        TrafficFigures {
            figures: whole,
            switch: between(first(by(new)), last(by(old))),
            revert: between(first(by(new).filter(|it| it.failed())), last_failed),
            once_measurable: last_failed.map(|last| {
                let measurable = measurable(by(new).collect(), allowed);
                between(measurable, Some(last)).unwrap_or_default()
            }),
            behind: recording.inconclusive(),
        }
    }

    /// Returns the figures, unless they are inconclusive.
    pub fn counted(&self) -> Option<&TrafficFigures> {
        self.behind.is_none().then_some(self)
    }
}

/// Returns when it was certain that more than a share of `allowed` fails, by our deployer's test
/// after each answer.
fn measurable(mut answers: Vec<&Answer>, allowed: f64) -> Option<u64> {
    answers.sort_by_key(|it| it.ended());
    let mut failed = 0;
    let certain = (1..).zip(answers).find(|(requests, answer)| {
        failed += u64::from(answer.failed());
        analysis::is_exceeded(failed, *requests, allowed)
    });
    certain.map(|(_, answer)| answer.ended())
}

fn first<'a>(answers: impl Iterator<Item = &'a Answer>) -> Option<u64> {
    answers.map(Answer::ended).min()
}

fn last<'a>(answers: impl Iterator<Item = &'a Answer>) -> Option<u64> {
    answers.map(Answer::ended).max()
}

/// The difference of two times in microseconds, in milliseconds.
fn between(from: Option<u64>, to: Option<u64>) -> Option<f64> {
    Some(to?.saturating_sub(from?) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubernetes::prober::{Identity, Lag, RequestOutcome, Vantage};

    use super::*;

    /// An answer to a request that is due at `millis`, 2 ms later.
    fn answer(millis: u64, version: &str, status: u16) -> Answer {
        let by = Identity {
            version: version.into(),
            ..Identity::default()
        };
        Answer {
            lane: "pooled".into(),
            intended: millis * 1000,
            sent_after: 100,
            took: 2000,
            outcome: RequestOutcome::Status(status),
            good: status < 400,
            by: Some(Arc::new(by)),
            on: None,
        }
    }

    fn figures(answers: Vec<Answer>) -> TrafficFigures {
        let lag = Lag {
            due: answers.len() as u64,
            ..Lag::default()
        };
        let recording = Recording {
            from: Vantage::Outside,
            answers,
            began: 0,
            ended: 1_000_000,
            lag: Some(lag),
            lost: 0,
            clock: None,
        };
        TrafficFigures::of(&recording, "v1", "v2", 0.01)
    }

    #[test]
    fn a_switch_lasts_as_long_as_both_answer() {
        let both = figures(vec![
            answer(10, "v1", 200),
            answer(20, "v2", 200),
            answer(30, "v1", 200),
            answer(90, "v1", 500),
            answer(99, "v2", 200),
        ]);
        assert_eq!(both.switch, Some(70.0));
        assert_eq!((both.figures.requests, both.figures.failed()), (5, 1));
        assert_eq!(
            both.revert, None,
            "the old version's failure is no bad release"
        );
    }

    #[test]
    fn a_switch_without_overlap_takes_no_time_and_none_without_a_new_version() {
        let clean = figures(vec![answer(10, "v1", 200), answer(20, "v2", 200)]);
        assert_eq!(clean.switch, Some(0.0));
        assert_eq!(figures(vec![answer(10, "v1", 200)]).switch, None);
    }

    #[test]
    fn a_revert_is_from_the_first_bad_answer_to_the_last() {
        let reverted = figures(vec![
            answer(10, "v2", 200),
            answer(20, "v2", 500),
            answer(25, "v1", 200),
            answer(420, "v2", 500),
            answer(500, "v1", 200),
        ]);
        assert_eq!(reverted.revert, Some(400.0));
    }

    /// The third of them fails, and two more with the old version between: by then it is certain.
    #[test]
    fn a_breach_is_measurable_once_chance_cannot_explain_it() {
        let reverted = figures(vec![
            answer(10, "v2", 200),
            answer(20, "v2", 500),
            answer(25, "v1", 500),
            answer(30, "v2", 500),
            answer(40, "v2", 500),
            answer(440, "v2", 500),
        ]);
        assert_eq!(reverted.once_measurable, Some(400.0));
        assert_eq!(reverted.revert, Some(420.0));
        let sooner = figures(vec![answer(10, "v2", 200), answer(20, "v2", 500)]);
        assert_eq!(sooner.once_measurable, Some(0.0), "rolled back before that");
        assert_eq!(figures(vec![answer(10, "v2", 200)]).once_measurable, None);
    }

    #[test]
    fn figures_of_a_prober_that_fell_behind_do_not_count() {
        let mut late = figures(vec![answer(10, "v1", 200)]);
        assert!(late.counted().is_some());
        late.behind = Some("it fell behind".into());
        assert_eq!(late.counted(), None);
    }
}
