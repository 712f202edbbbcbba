//! What simulated users share: access to the platform, the rate limit, the recorder.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::entry_point::EntryPoint;
use base::proxies::Proxies;
use environments::environment::Credentials;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use load_engine::journey::user_name;
use prober::IdentityHeaders;
use tokens::Tokens;
use tokio_util::sync::CancellationToken;

mod recorder;

pub(crate) use recorder::RecorderLog;
pub use recorder::{RequestRecord, Unanswered, UserRecorder};

/// How to reach the platform, and the limits for requests.
pub struct PlatformAccess<'a> {
    /// The address of its ingress or router.
    pub entry: &'a EntryPoint,
    /// The host of its API.
    pub api_host: &'a str,
    /// Credentials to log in and to sign tokens.
    pub credentials: &'a Credentials,
    /// The most requests a second of all users together, if limited.
    pub max_rate: Option<NonZeroU32>,
    /// The timeout of a request.
    pub timeout: Duration,
    /// The run's id, which is part of its investors' names.
    pub run: &'a str,
    /// The headers that name what answered.
    pub headers: &'a IdentityHeaders,
}

/// What all users share.
pub struct UserContext {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) timeout: Duration,
    pub(crate) tokens: Tokens,
    pub(crate) password: String,
    pub(crate) recorder: UserRecorder,
    run: String,
    users: AtomicU64,
    max_rate: Option<DefaultDirectRateLimiter>,
    /// Cancelled when no more requests may be sent.
    pub(crate) stopped: CancellationToken,
    /// Cancelled when requests in flight are cut off.
    pub(crate) cut_off: CancellationToken,
}

impl UserContext {
    /// Creates the context of one run.
    ///
    /// # Errors
    /// As [`EntryPoint::client`].
    pub fn new(reach: &PlatformAccess<'_>) -> std::io::Result<UserContext> {
        // A burst of one second's requests would double the rate of the first second.
        let spread = |rate: NonZeroU32| Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
        Ok(UserContext {
            // Without a proxy, which would distort the measurement.
            http: reach.entry.client([reach.api_host], &Proxies::default())?,
            base: reach.entry.url(reach.api_host),
            timeout: reach.timeout,
            tokens: Tokens::new(&reach.credentials.jwt_secret),
            password: reach.credentials.demo_password.clone(),
            recorder: UserRecorder::new(reach.headers.clone()),
            run: reach.run.to_owned(),
            users: AtomicU64::new(0),
            max_rate: reach.max_rate.map(spread).map(RateLimiter::direct),
            stopped: CancellationToken::new(),
            cut_off: CancellationToken::new(),
        })
    }

    /// Ensures that the platform answers, with any status.
    ///
    /// # Errors
    /// The reason why it does not answer.
    pub async fn answers(&self) -> Result<(), String> {
        let request = self.http.get(&self.base).timeout(self.timeout);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{}{}", base::chain(&error), self.past_proxy())),
        }
    }

    /// Returns a hint for errors, if other programs would use a proxy.
    fn past_proxy(&self) -> &'static str {
        let url = self.base.parse().ok();
        match url.and_then(|url| Proxies::of_this_process().to(&url).ok().flatten()) {
            Some(_) => "; load goes to the site directly, past the proxy of your environment",
            None => "",
        }
    }

    /// Returns the base URL of all requests.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Returns the name of a new investor.
    pub(crate) fn new_investor(&self) -> String {
        let number = self.users.fetch_add(1, Ordering::Relaxed) + 1;
        user_name(&self.run, number)
    }

    /// Waits until the next request may be sent. Returns false if no more may be sent.
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
}
