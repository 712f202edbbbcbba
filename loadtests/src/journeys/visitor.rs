//! One simulated user, and its requests.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use environments::exchange::whole;
use hurl_checks::Response;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokens::{INVESTOR, Tokens};

use super::checks::Wrong;
use crate::result::CHECK;
use crate::users::{RequestRecord, Unanswered, UserContext};

/// One simulated user.
#[derive(Clone)]
pub(super) struct Visitor {
    users: Arc<UserContext>,
    /// Its investor, unless it logs in as another one.
    pub(super) investor: String,
}

/// A request, and the expected status of its answer.
pub(super) struct UserRequest<'a> {
    visitor: &'a Visitor,
    /// The endpoint's name, with placeholders in its path.
    endpoint: &'static str,
    request: RequestBuilder,
    expects: u16,
}

impl Visitor {
    pub(super) fn new(users: &Arc<UserContext>) -> Visitor {
        Visitor {
            users: Arc::clone(users),
            investor: users.new_investor(),
        }
    }

    /// Returns the password of the seeded investors.
    pub(super) fn password(&self) -> &str {
        &self.users.password
    }

    /// Returns the base URL of its requests.
    pub(super) fn base(&self) -> &str {
        self.users.base()
    }

    /// Returns the signer of its tokens.
    pub(super) fn tokens(&self) -> &Tokens {
        &self.users.tokens
    }

    pub(super) fn get(&self, endpoint: &'static str, path: &str) -> UserRequest<'_> {
        self.request(Method::GET, endpoint, path)
    }

    pub(super) fn post(&self, endpoint: &'static str, path: &str, body: &Value) -> UserRequest<'_> {
        let mut request = self.request(Method::POST, endpoint, path);
        request.request = request.request.json(body);
        request
    }

    /// Sends a request, checks the response and records the result. A request that cannot be made is
    /// also recorded. Returns none if the answer is not good, or if the run has ended.
    pub(super) async fn send<T>(
        &self,
        endpoint: Arc<str>,
        request: Result<reqwest::Request, String>,
        check: impl FnOnce(&Response) -> Result<T, String>,
    ) -> Option<T> {
        let users = &self.users;
        if !users.may_send().await {
            return None;
        }
        let sent = Instant::now();
        let (answered, why) = match request {
            Ok(request) => (self.answered(request).await, None),
            Err(why) => (Err(Unanswered::Unsendable), Some(why)),
        };
        let took = sent.elapsed();
        let (status, received) = match &answered {
            Ok(response) => (Ok(response.status.as_u16()), response.body.len() as u64),
            Err(unanswered) => (Err(*unanswered), 0),
        };
        let answered = answered.map_err(|unanswered| why.unwrap_or_else(|| unanswered.to_string()));
        let (good, failure) = match answered.and_then(|response| check(&response)) {
            Ok(good) => (Some(good), None),
            Err(failure) => (None, Some(failure)),
        };
        users.recorder.record(RequestRecord {
            endpoint,
            sent,
            took,
            status,
            received,
            failure,
        });
        good
    }

    async fn answered(&self, request: reqwest::Request) -> Result<Response, Unanswered> {
        tokio::select! {
            answered = answer(&self.users, request) => answered,
            () = self.users.cut_off.cancelled() => Err(Unanswered::CutOff),
        }
    }

    fn request(&self, method: Method, endpoint: &'static str, path: &str) -> UserRequest<'_> {
        let url = format!("{}{path}", self.users.base);
        UserRequest {
            visitor: self,
            endpoint,
            request: self.users.http.request(method, url),
            expects: 200,
        }
    }
}

impl UserRequest<'_> {
    /// Adds a token of the visitor's investor. Each request has a new one, which has not expired.
    pub(super) fn signed(self) -> Self {
        let tokens = &self.visitor.users.tokens;
        let token = tokens.token(&self.visitor.investor, INVESTOR);
        self.bearing(&token)
    }

    /// Adds this token.
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

    /// As [`Visitor::send`], for a response of JSON.
    pub(super) async fn send_and_check<T>(
        self,
        check: impl FnOnce(&Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        let endpoint = self.endpoint.into();
        let request = self.request.build();
        let request = request.map_err(|_| Unanswered::Unsendable.to_string());
        let check = |response: &Response| check_json(response, self.expects, check);
        self.visitor.send(endpoint, request, check).await
    }
}

fn check_json<T>(
    response: &Response,
    expects: u16,
    check: impl FnOnce(&Value) -> Result<T, Wrong>,
) -> Result<T, String> {
    let status = response.status.as_u16();
    if status != expects {
        return Err(format!("status {status}"));
    }
    let json = serde_json::from_slice(&response.body);
    let checked = json
        .map_err(|_| "a JSON body")
        .and_then(|json| check(&json));
    checked.map_err(|wrong| format!("{CHECK}{wrong}"))
}

/// Sends the request and reads the complete response.
async fn answer(
    users: &UserContext,
    mut request: reqwest::Request,
) -> Result<Response, Unanswered> {
    *request.timeout_mut() = Some(users.timeout);
    let sent = Instant::now();
    let read = async {
        let answer = users.http.execute(request).await?;
        users.recorder.answered(answer.headers());
        whole(answer, sent).await
    };
    read.await.map_err(|error| reason(&error))
}

fn reason(error: &reqwest::Error) -> Unanswered {
    match io_cause(error).map(io::Error::kind) {
        _ if error.is_timeout() => Unanswered::TimedOut,
        Some(io::ErrorKind::ConnectionRefused) => Unanswered::Refused,
        _ if error.is_connect() => Unanswered::NoConnection,
        _ if error.is_builder() => Unanswered::Unsendable,
        _ => Unanswered::BrokenOff,
    }
}

fn io_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.find_map(|cause| cause.downcast_ref())
}
