//! A remote target of `harness.toml`, and its validation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use reqwest::Url;
use toml::Spanned;

use super::schema::{self, TargetKind};
use super::shared_rules::{fault, needed, validate_host, validate_namespace};
use super::{Fault, Target, line_of};
use kubernetes::Action;

/// An existing cluster, which is never created or deleted.
#[derive(Clone, Debug)]
pub struct RemoteTarget {
    /// The context in the user's kubeconfig.
    pub context: String,
    /// The API server that the context must lead to.
    pub server: Url,
    /// The kubeconfig, which is only read; `None` for the user's default.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of the release.
    pub namespace: String,
    /// The chart's values files in the repository; the last one wins.
    pub values: Vec<PathBuf>,
    /// The address of the platform.
    pub base: Base,
    /// The prober's image for requests from inside, if any. The nodes have it or can pull it.
    pub prober_image: Option<String>,
    /// The load generator's image. The nodes have it or can pull it. Without it, only this machine
    /// generates load.
    pub generator_image: Option<String>,
    /// Whether real users use it. Production is only read.
    pub production: bool,
    /// The permitted actions beyond reading.
    pub allow: BTreeSet<Action>,
    /// The maximum rate of load, in requests a second; set if load is allowed.
    pub max_rate: Option<NonZeroU32>,
}

impl RemoteTarget {
    /// What shows that both targets are one cluster or site; `None` if nothing does.
    fn shares(&self, other: &RemoteTarget) -> Option<String> {
        if same_server(&self.server, &other.server) {
            return Some(format!("the server {}", self.server));
        }
        let hosts = |base: &Base| [base.site_host.clone(), base.api_host.clone()];
        let others = hosts(&other.base);
        let mut own = hosts(&self.base).into_iter();
        let shared = own.find(|host| others.contains(host))?;
        Some(format!("the host {shared}"))
    }
}

/// Whether two URLs are of one API server. The case of the host, a default port and a last slash
/// make no difference.
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

/// The address of the platform, of one ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Whether it uses TLS.
    pub tls: bool,
    /// Its port.
    pub port: u16,
    /// The host of the site.
    pub site_host: String,
    /// The host of the API.
    pub api_host: String,
    /// The address of both hosts; `None` to use DNS.
    pub address: Option<SocketAddr>,
    /// The authority that signed its certificate (PEM file); `None` for those of this machine.
    pub authority: Option<PathBuf>,
}

pub(super) fn validate(target: &schema::TargetTable) -> Result<RemoteTarget, Fault> {
    let kind = &target.kind;
    let production = *needed(kind, "production", &target.production)?.get_ref();
    let values = needed(kind, "values", &target.values)?;
    let allow = needed(kind, "allow", &target.allow)?;
    Ok(RemoteTarget {
        context: validate_context(needed(kind, "context", &target.context)?)?,
        server: validate_server(needed(kind, "server", &target.server)?)?,
        kubeconfig: target.kubeconfig.as_ref().map(validate_file).transpose()?,
        namespace: validate_namespace(needed(kind, "namespace", &target.namespace)?)?,
        values: values.get_ref().clone(),
        base: validate_base(kind, target)?,
        prober_image: target.prober_image.clone().map(Spanned::into_inner),
        generator_image: target.generator_image.clone().map(Spanned::into_inner),
        production,
        allow: validate_allow(allow, production)?,
        max_rate: validate_max_rate(allow, target.max_rate.as_ref())?,
    })
}

/// All targets of one cluster or site must agree on `production`, so that none bypasses the
/// protection. `text` is the file's.
pub(super) fn validate_production(
    written: &BTreeMap<Spanned<String>, schema::TargetTable>,
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

fn validate_context(context: &Spanned<String>) -> Result<String, Fault> {
    match context.get_ref().trim().is_empty() {
        false => Ok(context.get_ref().clone()),
        true => Err(fault(
            context,
            "a context needs a name".into(),
            "`kubectl config get-contexts` lists yours",
        )),
    }
}

/// With TLS, because the server receives credentials.
fn validate_server(server: &Spanned<String>) -> Result<Url, Fault> {
    match server.get_ref().parse::<Url>() {
        Ok(url) if url.scheme() == "https" && url.has_host() => Ok(url),
        _ => Err(fault(
            server,
            format!("{:?} is not the URL of an API server", server.get_ref()),
            "as `kubectl config view --minify` shows it, e.g. \"https://10.0.0.1:6443\"",
        )),
    }
}

fn validate_file(file: &Spanned<PathBuf>) -> Result<PathBuf, Fault> {
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

fn validate_base(kind: &Spanned<TargetKind>, target: &schema::TargetTable) -> Result<Base, Fault> {
    let site_url = needed(kind, "site_url", &target.site_url)?;
    let api_url = needed(kind, "api_url", &target.api_url)?;
    let (site, site_host) = validate_url(site_url)?;
    let (api, api_host) = validate_url(api_url)?;
    let scheme_and_port = |url: &Url| (url.scheme() == "https", url.port_or_known_default());
    if scheme_and_port(&site) != scheme_and_port(&api) {
        return Err(fault(
            api_url,
            format!("{:?} is not behind the ingress of site_url", api.as_str()),
            "both with the same scheme and port",
        ));
    }
    let address = target.address.as_ref().map(validate_address).transpose()?;
    let (tls, port) = scheme_and_port(&site);
    if let (false, Some(authority)) = (tls, &target.authority) {
        return Err(fault(
            authority,
            "an authority does not apply to plain http".into(),
            "leave it out, or let site_url and api_url begin with https://",
        ));
    }
    Ok(Base {
        tls,
        // A URL of http or https has a port.
        port: address.map_or(port.unwrap_or_default(), |address| address.port()),
        site_host,
        api_host,
        address,
        authority: target.authority.as_ref().map(validate_file).transpose()?,
    })
}

/// The URL and its host.
fn validate_url(url: &Spanned<String>) -> Result<(Url, String), Fault> {
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
            let host = validate_host(&host)?;
            Ok((parsed, host))
        }
        _ => Err(wrong(format!("{text:?} is not the URL of a host"))),
    }
}

fn validate_address(address: &Spanned<String>) -> Result<SocketAddr, Fault> {
    match address.get_ref().parse::<SocketAddr>() {
        Ok(socket) if socket.port() != 0 => Ok(socket),
        _ => Err(fault(
            address,
            format!("{:?} is not an address and a port", address.get_ref()),
            "e.g. \"10.0.0.1:443\"; leave it out where DNS knows the hosts",
        )),
    }
}

fn validate_allow(
    allow: &Spanned<Vec<Action>>,
    production: bool,
) -> Result<BTreeSet<Action>, Fault> {
    match production && !allow.get_ref().is_empty() {
        true => Err(fault(
            allow,
            "a target with production = true allows nothing but reading".into(),
            "allow = []",
        )),
        false => Ok(allow.get_ref().iter().copied().collect()),
    }
}

/// A cluster with other users needs a bound for load.
fn validate_max_rate(
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
