//! What all users share: the way to the platform, its rate, and where answers are recorded.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use harness::entry::Entry;
use harness::environment::Credentials;
use harness::proxies::Proxies;
use harness::tokens::Tokens;
use tokio_util::sync::CancellationToken;

use super::Recorder;

/// Where the platform is reached, and how it may be asked.
pub struct Reach<'a> {
    /// Where its ingress or router answers.
    pub entry: &'a Entry,
    /// The host of its API.
    pub api_host: &'a str,
    /// What users log in and are signed with.
    pub credentials: &'a Credentials,
    /// The most requests a second, all users together; none is no bound.
    pub max_rate: Option<NonZeroU32>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The run's id: investors of its own are named after it.
    pub run: &'a str,
}

/// What all users share.
pub struct Ground {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) timeout: Duration,
    pub(crate) tokens: Tokens,
    pub(crate) password: String,
    pub(crate) recorder: Recorder,
    run: String,
    users: AtomicU64,
    max_rate: Option<DefaultDirectRateLimiter>,
    stopped: CancellationToken,
    cut: CancellationToken,
}

impl Ground {
    /// For one run.
    ///
    /// # Errors
    /// As [`Entry::client`].
    pub fn new(reach: &Reach<'_>) -> std::io::Result<Ground> {
        // A burst as large as a second's worth would be twice the rate in the first one.
        let spread = |rate: NonZeroU32| Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
        Ok(Ground {
            // A proxy between would be what is measured.
            http: reach.entry.client([reach.api_host], &Proxies::default())?,
            base: reach.entry.url(reach.api_host),
            timeout: reach.timeout,
            tokens: Tokens::new(&reach.credentials.jwt_secret),
            password: reach.credentials.demo_password.clone(),
            recorder: Recorder::default(),
            run: reach.run.to_owned(),
            users: AtomicU64::new(0),
            max_rate: reach.max_rate.map(spread).map(RateLimiter::direct),
            stopped: CancellationToken::new(),
            cut: CancellationToken::new(),
        })
    }

    /// Whether the platform answers at all; what was seen instead, where it does not. Any
    /// status is an answer.
    ///
    /// # Errors
    /// What was seen.
    pub async fn answers(&self) -> Result<(), String> {
        let request = self.http.get(&self.base).timeout(self.timeout);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{}{}", harness::chain(&error), self.past_proxy())),
        }
    }

    /// What to add where others would take a proxy.
    fn past_proxy(&self) -> &'static str {
        let url = self.base.parse().ok();
        let proxied = url.and_then(|url| Proxies::of_this_process().to(&url).ok().flatten());
        match proxied {
            Some(_) => "; load goes to the site directly, past the proxy of your environment",
            None => "",
        }
    }

    /// The URL that users begin at.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The name of an investor that nobody else is.
    pub(crate) fn new_investor(&self) -> String {
        let number = self.users.fetch_add(1, Ordering::Relaxed) + 1;
        format!("load-{}-{number}", self.run)
    }

    /// Waits until one more request may be sent; false when none may be any more.
    pub(crate) async fn may_send(&self) -> bool {
        let turn = async {
            if let Some(rate) = &self.max_rate {
                rate.until_ready().await;
            }
        };
        tokio::select! {
            biased;
            () = self.stopped.cancelled() => false,
            () = turn => true,
        }
    }

    /// Ends when nothing is waited for any more.
    pub(crate) async fn is_cut(&self) {
        self.cut.cancelled().await;
    }

    /// From now on nothing new is sent.
    pub(super) fn stop(&self) {
        self.stopped.cancel();
    }

    /// From now on nothing is waited for.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }
}
