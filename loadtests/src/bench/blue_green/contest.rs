//! The releases of all contenders, one after the other, in one environment.

use std::time::{Duration, Instant};

use base::wait::WaitError;
use tokio::time::timeout;

use super::argo::Argo;
use super::killed::{BY_ITSELF_WITHIN, KillEnd, Killed};
use super::release_site::ReleaseSite;
use super::setup::BenchSetup;
use super::traffic::{BenchTraffic, PER_SECOND};
use super::traffic_figures::TrafficFigures;
use super::{BenchRelease, Contender, Quality, Release, faults, guide, ours};
use crate::bench::error::BenchError;
use crate::bench::series::millis_since;

/// The timeout of a release, a last resort: its waits have their own timeouts.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(600);

pub struct Contest<'a> {
    pub setup: BenchSetup<'a>,
    /// Argo Rollouts, if it is available.
    pub argo: Option<Argo>,
}

impl Contest<'_> {
    /// The available contenders.
    pub fn contenders(&self) -> impl Iterator<Item = Contender> {
        Contender::ALL
            .into_iter()
            .filter(|by| *by != Contender::Argo || self.argo.is_some())
    }

    /// Measures a release under traffic.
    pub async fn release(&self, attempt: BenchRelease) -> Result<Release, BenchError> {
        let BenchRelease {
            by,
            quality,
            per_second,
        } = attempt;
        let site = self.site(by)?;
        let old = self.reset(by).await?;
        let (new, before) = (self.setup.other_than(&old), site.selected().await?);
        let headers = &self.setup.policy().versions.headers;
        let environment = &self.setup.environment;
        let traffic = BenchTraffic::start(environment, headers, site.path, per_second).await?;
        let whole = async {
            let started = Instant::now();
            let releasing = self.released(by, new, quality);
            let cost = match quality.error_share() {
                None => releasing.await?,
                Some(share) => faults::plant_once_switched(site, &before, share, releasing).await?,
            };
            let millis = millis_since(started);
            self.ends_live(site, &before, quality).await?;
            traffic.for_seconds(5).await?;
            Ok((cost, millis))
        };
        let (ReleaseCost { spans, memory }, millis) =
            self.with_error_share(&traffic, whole).await?;
        let allowed = self.setup.policy().thresholds.max_error_share;
        Ok(Release {
            attempt,
            millis,
            spans,
            memory,
            traffic: TrafficFigures::of(&traffic.end().await, &old, new, allowed),
        })
    }

    /// Measures a release of a good version under traffic, whose deployer is killed right after the
    /// switch.
    pub async fn killed(&self, by: Contender) -> Result<Killed, BenchError> {
        let site = self.site(by)?;
        let old = self.reset(by).await?;
        let (new, before) = (self.setup.other_than(&old), site.selected().await?);
        let headers = &self.setup.policy().versions.headers;
        let environment = &self.setup.environment;
        let traffic = BenchTraffic::start(environment, headers, site.path, PER_SECOND).await?;
        let whole = async {
            match by {
                Contender::Ours => ours::killed(&self.setup, new, &before).await?,
                Contender::Script => guide::killed(&self.setup, new, &before).await?,
                Contender::Argo => self.argo()?.killed(new, &before).await?,
            }
            let at_once = site.pods().await?;
            Ok((at_once, self.ended(by, site, new).await?))
        };
        let (at_once, ended) = self.with_error_share(&traffic, whole).await?;
        let so_far = traffic.so_far();
        traffic.end().await;
        Ok(Killed {
            by,
            new: new.to_owned(),
            at_once,
            ended,
            requests: so_far.ended(),
            failed: so_far.failed,
        })
    }

    async fn released(
        &self,
        by: Contender,
        version: &str,
        quality: Quality,
    ) -> Result<ReleaseCost, BenchError> {
        let released = async {
            let (spans, memory) = match by {
                Contender::Ours => ours::release(&self.setup, version, quality).await?,
                Contender::Script => (None, guide::release(&self.setup, version, quality).await?),
                Contender::Argo => (None, self.argo()?.release(version, quality).await?),
            };
            Ok(ReleaseCost { spans, memory })
        };
        let late =
            |_| BenchError::release("a release")(format!("no end within {RELEASE_TIMEOUT:?}"));
        timeout(RELEASE_TIMEOUT, released).await.map_err(late)?
    }

    /// Runs `work`, while Argo Rollouts can query the users' error share.
    async fn with_error_share<T>(
        &self,
        traffic: &BenchTraffic,
        work: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, BenchError> {
        match &self.argo {
            Some(argo) => argo.error_share.serve_during(traffic, work).await,
            None => work.await,
        }
    }

    /// Ensures that the right version is live. After a good release, waits for the old pods to end:
    /// they are part of it, whether the contender waited for them or not.
    async fn ends_live(
        &self,
        site: &ReleaseSite,
        before: &str,
        quality: Quality,
    ) -> Result<(), BenchError> {
        let is_back = site.selected().await? == before;
        match (quality, is_back) {
            (Quality::Good, false) => site.steady().await.map(drop),
            (Quality::Bad | Quality::OneInTen, true) => Ok(()),
            _ => Err(BenchError::release("a release")(format!(
                "after a {quality} the wrong version is live"
            ))),
        }
    }

    /// Restores the state in which every release starts. Returns the live version.
    async fn reset(&self, by: Contender) -> Result<String, BenchError> {
        match by {
            Contender::Argo => self.argo()?.reset().await,
            Contender::Ours | Contender::Script => self.setup.reset().await,
        }
    }

    /// Waits for the end of a release of `new` whose deployer has been killed. If it does not end
    /// by itself, runs the same command again.
    async fn ended(
        &self,
        by: Contender,
        site: &ReleaseSite,
        new: &str,
    ) -> Result<KillEnd, BenchError> {
        let started = Instant::now();
        match site.steady_within(BY_ITSELF_WITHIN).await {
            Ok(_) => Ok(KillEnd::ByItself {
                millis: millis_since(started),
                left: site.pods().await?,
            }),
            Err(BenchError::Wait(WaitError::TimedOut { .. })) => {
                let waiting = site.pods().await?;
                let started = Instant::now();
                self.released(by, new, Quality::Good).await?;
                site.steady().await?;
                Ok(KillEnd::ByHand {
                    waiting,
                    millis: millis_since(started),
                    left: site.pods().await?,
                })
            }
            Err(error) => Err(error),
        }
    }

    fn site(&self, by: Contender) -> Result<&ReleaseSite, BenchError> {
        match by {
            Contender::Argo => Ok(&self.argo()?.site),
            Contender::Ours | Contender::Script => Ok(&self.setup.ours),
        }
    }

    fn argo(&self) -> Result<&Argo, BenchError> {
        let argo = self.argo.as_ref();
        argo.ok_or_else(|| BenchError::release("Argo Rollouts")("it is not installed"))
    }
}

struct ReleaseCost {
    /// Its parts, only for our deployer.
    spans: Option<ours::Spans>,
    /// The contender's peak memory, in MiB.
    memory: Option<f64>,
}
