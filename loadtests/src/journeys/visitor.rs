//! One simulated user, and how it asks.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use harness::tokens::INVESTOR;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::answer::Wrong;
use crate::closed::{Ground, Sample, Unanswered};
use crate::result::CHECK;

/// One simulated user.
#[derive(Clone)]
pub(super) struct Visitor {
    ground: Arc<Ground>,
    investor: String,
}

/// What is asked, and which status a good answer has.
pub(super) struct Question<'a> {
    visitor: &'a Visitor,
    /// As the endpoint is called: its path with placeholders.
    endpoint: &'static str,
    request: RequestBuilder,
    expects: u16,
}

/// What was answered, before anybody looked at it.
struct Answered {
    status: u16,
    body: Vec<u8>,
}

impl Visitor {
    pub(super) fn new(ground: &Arc<Ground>) -> Visitor {
        Visitor {
            ground: Arc::clone(ground),
            investor: ground.new_investor(),
        }
    }

    /// The investor that it is where it does not log in as another one.
    pub(super) fn investor(&self) -> &str {
        &self.investor
    }

    /// What the seeded investors log in with.
    pub(super) fn password(&self) -> &str {
        &self.ground.password
    }

    pub(super) fn get(&self, endpoint: &'static str, path: &str) -> Question<'_> {
        self.question(Method::GET, endpoint, path)
    }

    pub(super) fn post(&self, endpoint: &'static str, path: &str, body: &Value) -> Question<'_> {
        let mut question = self.question(Method::POST, endpoint, path);
        question.request = question.request.json(body);
        question
    }

    fn question(&self, method: Method, endpoint: &'static str, path: &str) -> Question<'_> {
        let url = format!("{}{path}", self.ground.base);
        Question {
            visitor: self,
            endpoint,
            request: self.ground.http.request(method, url),
            expects: 200,
        }
    }
}

impl Question<'_> {
    /// By the visitor itself. Signed for each question: no run is too long for a token.
    pub(super) fn signed(self) -> Self {
        let tokens = &self.visitor.ground.tokens;
        let token = tokens.token(&self.visitor.investor, INVESTOR);
        self.bearing(&token)
    }

    /// By whom the token is of.
    pub(super) fn bearing(mut self, token: &str) -> Self {
        self.request = self.request.bearer_auth(token);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: String) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(super) fn expects(mut self, status: u16) -> Self {
        self.expects = status;
        self
    }

    /// Asks, judges the answer and records both. None when it was no good answer, or the run
    /// is over.
    pub(super) async fn judged<T>(
        self,
        judge: impl FnOnce(&Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        let ground = &self.visitor.ground;
        if !ground.may_send().await {
            return None;
        }
        let sent = Instant::now();
        let request = self.request.timeout(ground.timeout);
        let answered = tokio::select! {
            answered = answer(ground, request) => answered,
            () = ground.is_cut() => Err(Unanswered::CutOff),
        };
        let took = sent.elapsed();
        let (status, received) = match &answered {
            Ok(answered) => (Ok(answered.status), answered.body.len() as u64),
            Err(unanswered) => (Err(*unanswered), 0),
        };
        let answered = answered.map_err(|unanswered| unanswered.to_string());
        let judged = answered.and_then(|answered| answered.judged(self.expects, judge));
        let (good, failure) = match judged {
            Ok(good) => (Some(good), None),
            Err(failure) => (None, Some(failure)),
        };
        ground.recorder.record(Sample {
            endpoint: self.endpoint,
            sent,
            took,
            status,
            received,
            failure,
        });
        good
    }
}

impl Answered {
    fn judged<T>(
        &self,
        expects: u16,
        judge: impl FnOnce(&Value) -> Result<T, Wrong>,
    ) -> Result<T, String> {
        if self.status != expects {
            return Err(format!("status {}", self.status));
        }
        let json = serde_json::from_slice(&self.body);
        let json = json.map_err(|_| "a JSON body");
        let judged = json.and_then(|json| judge(&json));
        judged.map_err(|wrong| format!("{CHECK}{wrong}"))
    }
}

/// The whole answer, or why there is none.
async fn answer(ground: &Ground, request: RequestBuilder) -> Result<Answered, Unanswered> {
    let read = async {
        let response = request.send().await?;
        ground.recorder.answered(response.headers());
        let status = response.status().as_u16();
        let body = response.bytes().await?.to_vec();
        Ok::<_, reqwest::Error>(Answered { status, body })
    };
    read.await.map_err(|error| why(&error))
}

fn why(error: &reqwest::Error) -> Unanswered {
    let io = io_cause(error).map(io::Error::kind);
    match io {
        _ if error.is_timeout() => Unanswered::TimedOut,
        Some(io::ErrorKind::ConnectionRefused) => Unanswered::Refused,
        _ if error.is_connect() => Unanswered::NoConnection,
        _ if error.is_builder() => Unanswered::Unsendable,
        _ => Unanswered::BrokenOff,
    }
}

fn io_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.filter_map(|cause| cause.downcast_ref()).next()
}
