//! A remote target as `harness.toml` describes it, and whether that is possible.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::judge::{fault, judge_host, judge_namespace, needed};
use super::schema::{self, TargetKind};
use super::{Fault, Target, line_of};

/// An existing cluster, which is used and never stood up or taken down.
#[derive(Clone, Debug)]
pub struct RemoteTarget {
    /// The context in the user's kubeconfig.
    pub context: String,
    /// The API server that the context must lead to.
    pub server: Url,
    /// The kubeconfig, which is only read; none is the user's usual one.
    pub kubeconfig: Option<PathBuf>,
    /// Where the release is.
    pub namespace: String,
    /// The chart's values files, of the repository, the last one winning.
    pub values: Vec<PathBuf>,
    /// Where users reach the platform.
    pub base: Base,
    /// The image of the prober, that the nodes have or can pull, for looking and asking from
    /// inside; none does without.
    pub prober_image: Option<String>,
    /// The image of a load generator, that the nodes have or can pull; none has load made by
    /// this machine alone.
    pub generator_image: Option<String>,
    /// Whether real users are on it: then nothing but reading is ever done there.
    pub production: bool,
    /// What is permitted there beyond reading.
    pub allow: BTreeSet<Action>,
    /// The most requests a second that load puts on it; there where load is allowed.
    pub max_rate: Option<NonZeroU32>,
}

impl RemoteTarget {
    /// What two targets have in common that makes them one place; none where they are two.
    fn shares(&self, other: &RemoteTarget) -> Option<String> {
        if same_server(&self.server, &other.server) {
            return Some(format!("the server {}", self.server));
        }
        let hosts = |base: &Base| [base.site_host.clone(), base.api_host.clone()];
        let others = hosts(&other.base);
        let shared = hosts(&self.base)
            .into_iter()
            .find(|host| others.contains(host));
        shared.map(|host| format!("the host {host}"))
    }
}

/// Whether two URLs lead to one API server: as URLs, the case of the host and the usual port
/// make no difference; nor does a last slash.
pub(crate) fn same_server(one: &Url, other: &Url) -> bool {
    let parts = |url: &Url| {
        let path = url.path().trim_end_matches('/').to_owned();
        let host = url.host_str().map(str::to_owned);
        (
            url.scheme().to_owned(),
            host,
            url.port_or_known_default(),
            path,
        )
    };
    parts(one) == parts(other)
}

/// Where users reach the platform, by one ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Its port.
    pub port: u16,
    /// The host of the site.
    pub site_host: String,
    /// The host of the API.
    pub api_host: String,
    /// What both hosts are taken to resolve to; none leaves that to DNS.
    pub address: Option<SocketAddr>,
    /// The authority that signed its certificate (PEM file); none trusts this machine's.
    pub authority: Option<PathBuf>,
}

/// What more than reads, and is therefore done where a target names it only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Installing or upgrading the release.
    Deploy,
    /// Ticks, portfolios and orders of the smoke scenario's own.
    Orders,
    /// As many requests at once as it takes to be limited.
    Burst,
    /// Pods in the namespace `default`, for looking, and load, from inside.
    Inside,
    /// Load, with portfolios and orders of its own.
    Load,
}

impl Action {
    /// As `allow` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Action::Deploy => "deploy",
            Action::Orders => "orders",
            Action::Burst => "burst",
            Action::Inside => "inside",
            Action::Load => "load",
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

pub(super) fn judge(target: &schema::Target) -> Result<RemoteTarget, Fault> {
    let kind = &target.kind;
    let production = *needed(kind, "production", &target.production)?.get_ref();
    let values = needed(kind, "values", &target.values)?;
    let allow = needed(kind, "allow", &target.allow)?;
    Ok(RemoteTarget {
        context: judge_context(needed(kind, "context", &target.context)?)?,
        server: judge_server(needed(kind, "server", &target.server)?)?,
        kubeconfig: target.kubeconfig.as_ref().map(judge_file).transpose()?,
        namespace: judge_namespace(needed(kind, "namespace", &target.namespace)?)?,
        values: values.get_ref().clone(),
        base: judge_base(kind, target)?,
        prober_image: target.prober_image.as_ref().map(|it| it.get_ref().clone()),
        generator_image: target
            .generator_image
            .as_ref()
            .map(|it| it.get_ref().clone()),
        production,
        allow: judge_allow(allow, production)?,
        max_rate: judge_max_rate(allow, target.max_rate.as_ref())?,
    })
}

/// Whether real users are on a cluster is a fact of the cluster and its site: no second target
/// gives away what the first one protects. `text` is the file's.
pub(super) fn judge_production(
    written: &BTreeMap<Spanned<String>, schema::Target>,
    targets: &BTreeMap<String, Target>,
    text: &str,
) -> Result<(), Fault> {
    let mut remote: Vec<_> = targets
        .iter()
        .filter_map(|(name, target)| match target {
            Target::Remote(target) => {
                Some((name, target, written[name.as_str()].production.as_ref()?))
            }
            Target::Local(_) | Target::Kind(_) => None,
        })
        .collect();
    remote.sort_by_key(|(_, _, production)| production.span().start);
    for (at, (name, target, production)) in remote.iter().enumerate() {
        let others = remote[..at]
            .iter()
            .filter(|(_, other, _)| other.production != target.production);
        for (other, its, earlier) in others {
            if let Some(shared) = target.shares(its) {
                return Err(fault(
                    production,
                    format!(
                        "[targets.{name}] has production = {}, and [targets.{other}], line {}, production = {}: both have {shared}",
                        target.production,
                        line_of(text, earlier.span().start),
                        its.production,
                    ),
                    "one cluster and its site are production or are not, whatever a target is called: give both targets the same value",
                ));
            }
        }
    }
    Ok(())
}

fn judge_context(context: &Spanned<String>) -> Result<String, Fault> {
    match context.get_ref().trim().is_empty() {
        false => Ok(context.get_ref().clone()),
        true => Err(fault(
            context,
            "a context without a name is none".into(),
            "`kubectl config get-contexts` lists yours",
        )),
    }
}

/// Credentials go there: never in the clear.
fn judge_server(server: &Spanned<String>) -> Result<Url, Fault> {
    match server.get_ref().parse::<Url>() {
        Ok(url) if url.scheme() == "https" && url.has_host() => Ok(url),
        _ => Err(fault(
            server,
            format!("{:?} is not the URL of an API server", server.get_ref()),
            "as `kubectl config view --minify` shows it, e.g. \"https://10.0.0.1:6443\"",
        )),
    }
}

fn judge_file(file: &Spanned<PathBuf>) -> Result<PathBuf, Fault> {
    let path = file.get_ref();
    match path.starts_with("~") || path == Path::new("") {
        false => Ok(path.clone()),
        true => Err(fault(
            file,
            format!("{:?} names no file: no shell reads it", path.display()),
            "an absolute path, or one from the repository's root",
        )),
    }
}

fn judge_base(kind: &Spanned<TargetKind>, target: &schema::Target) -> Result<Base, Fault> {
    let site_url = needed(kind, "site_url", &target.site_url)?;
    let api_url = needed(kind, "api_url", &target.api_url)?;
    let (site, site_host) = judge_url(site_url)?;
    let (api, api_host) = judge_url(api_url)?;
    let way = |url: &Url| (url.scheme() == "https", url.port_or_known_default());
    if way(&site) != way(&api) {
        return Err(fault(
            api_url,
            format!("{:?} is not behind the ingress of site_url", api.as_str()),
            "both with the same scheme and port",
        ));
    }
    let address = target.address.as_ref().map(judge_address).transpose()?;
    let (tls, port) = way(&site);
    if let (false, Some(authority)) = (tls, &target.authority) {
        return Err(fault(
            authority,
            "an authority means nothing to plain http".into(),
            "leave it out, or let site_url and api_url begin with https://",
        ));
    }
    Ok(Base {
        tls,
        // A URL of http or https has one.
        port: address.map_or(port.unwrap_or_default(), |address| address.port()),
        site_host,
        api_host,
        address,
        authority: target.authority.as_ref().map(judge_file).transpose()?,
    })
}

/// The URL and its host.
fn judge_url(url: &Spanned<String>) -> Result<(Url, String), Fault> {
    let wrong = |message: String| {
        let help = "scheme and host, a port where it is not the usual one, and nothing more, e.g. \"https://staging.trii.co\"";
        fault(url, message, help)
    };
    let text = url.get_ref();
    let parsed: Url = text
        .parse()
        .map_err(|error| wrong(format!("{text:?} is not a URL: {error}")))?;
    let plain = parsed.path() == "/"
        && parsed.query().is_none()
        && parsed.fragment().is_none()
        && parsed.username().is_empty()
        && parsed.password().is_none();
    let web = matches!(parsed.scheme(), "http" | "https");
    match (plain && web, parsed.domain()) {
        (true, Some(host)) => {
            let host = Spanned::new(url.span(), host.to_owned());
            let host = judge_host(&host)?;
            Ok((parsed, host))
        }
        _ => Err(wrong(format!("{text:?} is not the URL of a host"))),
    }
}

fn judge_address(address: &Spanned<String>) -> Result<SocketAddr, Fault> {
    match address.get_ref().parse::<SocketAddr>() {
        Ok(socket) if socket.port() != 0 => Ok(socket),
        _ => Err(fault(
            address,
            format!("{:?} is not an address and a port", address.get_ref()),
            "e.g. \"10.0.0.1:443\"; leave it out where DNS knows the hosts",
        )),
    }
}

fn judge_allow(allow: &Spanned<Vec<Action>>, production: bool) -> Result<BTreeSet<Action>, Fault> {
    match production && !allow.get_ref().is_empty() {
        true => Err(fault(
            allow,
            "a target with production = true allows nothing but reading".into(),
            "allow = []",
        )),
        false => Ok(allow.get_ref().iter().copied().collect()),
    }
}

/// Load without a bound is never put on what others use, too.
fn judge_max_rate(
    allow: &Spanned<Vec<Action>>,
    max_rate: Option<&Spanned<u32>>,
) -> Result<Option<NonZeroU32>, Fault> {
    let loads = allow.get_ref().contains(&Action::Load);
    let at_least_one = "the most requests a second, 1 or more, e.g. max_rate = 50";
    match max_rate.map(|rate| (rate, NonZeroU32::new(*rate.get_ref()))) {
        Some((_, Some(rate))) => Ok(Some(rate)),
        Some((rate, None)) => Err(fault(rate, "max_rate 0 is no load".into(), at_least_one)),
        None if loads => Err(fault(
            allow,
            "a target that allows load needs max_rate".into(),
            at_least_one,
        )),
        None => Ok(None),
    }
}
