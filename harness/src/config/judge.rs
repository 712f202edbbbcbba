//! Whether what `harness.toml` says is possible.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;
use toml::Spanned;

use super::schema::{self, PathType, TargetKind};
use super::{
    AUTO, Config, Deadlines, Fault, KindTarget, LocalTarget, Platform, Route, Target, Written,
    blue_green, load, remote,
};
use crate::service::Service;

const SCHEMA: u32 = 1;
const LONGEST_DEADLINE_SECONDS: u32 = 24 * 3600;

/// Set by the harness itself for each run: a value in the file would be a lie or a secret.
const RESERVED_VARIABLES: [&str; 14] = [
    "ANALYSIS_ENGINE_URL",
    "DATABASE_URL",
    "DEMO_PASSWORD",
    "ENVIRONMENT",
    "FAULTS_ALLOWED",
    "INSTANCE",
    "JWT_SECRET",
    "LISTEN_ADDRESS",
    "MARKET_DATA_URL",
    "METRICS_ADDRESS",
    "ML_PREDICTION_URL",
    "PORTFOLIO_MANAGER_URL",
    "REDIS_URL",
    "SERVICE_VERSION",
];

pub(super) fn judge(file: schema::File, written: Written) -> Result<Config, Fault> {
    judge_schema(&file.schema)?;
    let targets = file
        .targets
        .iter()
        .map(|(name, target)| Ok((judge_target_name(name)?, judge_target(target)?)))
        .collect::<Result<_, Fault>>()?;
    remote::judge_production(&file.targets, &targets, &written.text)?;
    let default_target = judge_default_target(&file.default_target, &targets)?;
    let mut routes = file
        .routes
        .iter()
        .map(judge_route)
        .collect::<Result<Vec<_>, _>>()?;
    // As ingress-nginx orders its locations: longest first, and of equals the exact one
    // (Kubernetes, "Multiple matches"). A stable sort keeps the file's order otherwise.
    routes.sort_by_key(|route| {
        let exact = route.path_type == PathType::Exact;
        (std::cmp::Reverse(route.path.len()), !exact)
    });
    Ok(Config {
        default_target,
        targets,
        platform: judge_platform(&file.platform)?,
        service_env: judge_services(&file.services)?,
        routes,
        deadlines: judge_deadlines(&file.deadlines)?,
        blue_green: blue_green::judge(&file.blue_green, &file.services)?,
        load: load::judge(&file.load)?,
        profiles: load::judge_profiles(file.profiles)?,
        written,
    })
}

/// "did you mean", when something known is near enough.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const NEAR_ENOUGH: f64 = 0.6;
    let known: Vec<&str> = known.into_iter().collect();
    let best = known
        .iter()
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(wrong, candidate),
                candidate,
            )
        })
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, candidate)) if score >= NEAR_ENOUGH => {
            Some(format!("did you mean {candidate:?}?"))
        }
        Some(_) => Some(format!("known: {}", known.join(", "))),
        None => None,
    }
}

pub(super) fn fault<T>(at: &Spanned<T>, message: String, help: impl Into<String>) -> Fault {
    Fault {
        span: at.span(),
        message,
        help: Some(help.into()),
    }
}

fn judge_schema(schema: &Spanned<u32>) -> Result<(), Fault> {
    match *schema.get_ref() {
        SCHEMA => Ok(()),
        other => Err(fault(
            schema,
            format!("schema {other} is not known"),
            format!("this version reads schema {SCHEMA}"),
        )),
    }
}

/// What is kept of a remote target is named after it, as an environment is.
fn judge_target_name(name: &Spanned<String>) -> Result<String, Fault> {
    let text = name.get_ref();
    match text.as_str() {
        AUTO => Err(fault(
            name,
            format!("no target can be called {AUTO:?}"),
            "it stands for the one that this machine is for; choose another name",
        )),
        _ if names_environment(text) => Ok(text.clone()),
        _ => {
            let likely = text.to_lowercase().replace(['_', '.', ' '], "-");
            let example = match names_environment(&likely) {
                true => likely,
                false => "staging-eu".to_owned(),
            };
            Err(fault(
                name,
                format!("{text:?} cannot name a target"),
                format!(
                    "1 to {LONGEST_NAME} lower-case letters, digits and '-', e.g. [targets.{example}]"
                ),
            ))
        }
    }
}

/// An environment's name fits into those of containers and clusters.
const LONGEST_NAME: usize = 30;

/// Whether that is an RFC 1123 label that can name an environment.
pub fn names_environment(text: &str) -> bool {
    text.len() <= LONGEST_NAME && is_label(text)
}

/// The most nodes that a kind cluster of one machine is asked for.
const MOST_NODES: u16 = 9;

fn judge_target(target: &schema::Target) -> Result<Target, Fault> {
    let kind = &target.kind;
    judge_keys(target)?;
    match kind.get_ref() {
        TargetKind::Local => Ok(Target::Local(LocalTarget {
            backing_services: *needed(kind, "backing_services", &target.backing_services)?
                .get_ref(),
            router_port: *needed(kind, "router_port", &target.router_port)?.get_ref(),
        })),
        TargetKind::Kind => Ok(Target::Kind(KindTarget {
            kubernetes: judge_kubernetes(needed(kind, "kubernetes", &target.kubernetes)?)?,
            nodes: judge_nodes(needed(kind, "nodes", &target.nodes)?)?,
            ingress_port: *needed(kind, "ingress_port", &target.ingress_port)?.get_ref(),
            namespace: judge_namespace(needed(kind, "namespace", &target.namespace)?)?,
            values: needed(kind, "values", &target.values)?.get_ref().clone(),
        })),
        TargetKind::Remote => Ok(Target::Remote(Box::new(remote::judge(target)?))),
    }
}

/// A key of another kind of target would be without effect.
fn judge_keys(target: &schema::Target) -> Result<(), Fault> {
    let kind = target.kind.get_ref();
    let strange = target.keys().find(|(key, _)| !kind.keys().contains(key));
    match strange {
        None => Ok(()),
        Some((key, span)) => Err(Fault {
            span,
            message: format!(
                "{key} means nothing to a target of the kind {:?}",
                kind.name()
            ),
            help: Some("leave it out".into()),
        }),
    }
}

pub(super) fn needed<'a, T>(
    kind: &Spanned<TargetKind>,
    key: &str,
    value: &'a Option<Spanned<T>>,
) -> Result<&'a Spanned<T>, Fault> {
    value.as_ref().ok_or_else(|| {
        let message = format!("a target of this kind needs {key}");
        fault(
            kind,
            message,
            format!("docs/configuration.md explains {key}"),
        )
    })
}

/// Which minor versions can be had, `fixtures/images` tells.
fn judge_kubernetes(version: &Spanned<String>) -> Result<String, Fault> {
    let numbers = version.get_ref().split('.').map(str::parse::<u16>);
    match numbers.collect::<Result<Vec<_>, _>>().as_deref() {
        Ok([_, _]) => Ok(version.get_ref().clone()),
        _ => Err(fault(
            version,
            format!(
                "{:?} is not a minor version of Kubernetes",
                version.get_ref()
            ),
            "e.g. \"1.37\"",
        )),
    }
}

fn judge_nodes(nodes: &Spanned<u16>) -> Result<u16, Fault> {
    match *nodes.get_ref() {
        some @ 1..=MOST_NODES => Ok(some),
        other => Err(fault(
            nodes,
            format!("a cluster of {other} nodes is not made"),
            format!("1 to {MOST_NODES}, the control plane included"),
        )),
    }
}

/// An RFC 1123 label, as the names of namespaces are.
pub(super) fn judge_namespace(name: &Spanned<String>) -> Result<String, Fault> {
    match is_label(name.get_ref()) {
        true => Ok(name.get_ref().clone()),
        false => Err(fault(
            name,
            format!("{:?} cannot name a namespace", name.get_ref()),
            "1 to 63 lower-case letters, digits and '-', e.g. \"trii-platform\"",
        )),
    }
}

fn judge_default_target(
    name: &Spanned<String>,
    targets: &BTreeMap<String, Target>,
) -> Result<String, Fault> {
    if name.get_ref() == AUTO || targets.contains_key(name.get_ref()) {
        return Ok(name.get_ref().clone());
    }
    Err(Fault {
        span: name.span(),
        message: format!("default_target {:?} is not defined", name.get_ref()),
        help: nearest(name.get_ref(), targets.keys().map(String::as_str))
            .or_else(|| Some("define one under [targets]".into())),
    })
}

fn judge_platform(platform: &schema::Platform) -> Result<Platform, Fault> {
    let version = platform.version.get_ref();
    let tag = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if version.is_empty() || version.len() > 128 || !version.chars().all(tag) {
        return Err(fault(
            &platform.version,
            format!("version {version:?} cannot be an image tag"),
            "up to 128 letters, digits, '.', '_' and '-', e.g. \"v2.1.0\"",
        ));
    }
    Ok(Platform {
        version: version.clone(),
        site_host: judge_host(&platform.site_host)?,
        api_host: judge_host(&platform.api_host)?,
    })
}

/// RFC 1123 host names, lower case.
pub(super) fn judge_host(host: &Spanned<String>) -> Result<String, Fault> {
    if host.get_ref().split('.').all(is_label) {
        return Ok(host.get_ref().clone());
    }
    Err(fault(
        host,
        format!("{:?} is not a host name", host.get_ref()),
        "lower case, without scheme, port or path, e.g. \"trii.co\"",
    ))
}

fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.chars().all(allowed)
}

fn judge_services(
    services: &BTreeMap<Spanned<String>, schema::ServiceSettings>,
) -> Result<BTreeMap<Service, BTreeMap<String, String>>, Fault> {
    let mut all = BTreeMap::new();
    for (name, settings) in services {
        let service = judge_service(name)?;
        let mut env = BTreeMap::new();
        for (variable, value) in &settings.env {
            if RESERVED_VARIABLES.contains(&variable.get_ref().as_str()) {
                return Err(fault(
                    variable,
                    format!("{} is set by the harness for each run", variable.get_ref()),
                    "leave it out; secrets never belong in this file",
                ));
            }
            env.insert(variable.get_ref().clone(), value.clone());
        }
        all.insert(service, env);
    }
    Ok(all)
}

pub(super) fn judge_service(name: &Spanned<String>) -> Result<Service, Fault> {
    name.get_ref().parse().map_err(|()| Fault {
        span: name.span(),
        message: format!("no service is called {:?}", name.get_ref()),
        help: nearest(name.get_ref(), Service::ALL.iter().map(|s| s.name())),
    })
}

fn judge_route(route: &schema::Route) -> Result<Route, Fault> {
    let path = route.path.get_ref();
    if !path.starts_with('/') {
        return Err(fault(
            &route.path,
            format!("path {path:?} does not start with '/'"),
            "e.g. \"/api\"",
        ));
    }
    let groups = match route.path_type.get_ref() {
        PathType::ImplementationSpecific => Some(judge_regex(&route.path)?),
        PathType::Exact | PathType::Prefix => {
            judge_plain_path(&route.path, &route.path_type)?;
            None
        }
    };
    if let Some(rewrite) = &route.rewrite {
        judge_rewrite(rewrite, groups)?;
    }
    Ok(Route {
        host: judge_host(&route.host)?,
        path: path.clone(),
        path_type: *route.path_type.get_ref(),
        rewrite: route.rewrite.as_ref().map(|r| r.get_ref().clone()),
        service: judge_service(&route.service)?,
    })
}

/// How many groups the expression has.
fn judge_regex(path: &Spanned<String>) -> Result<usize, Fault> {
    match Regex::new(path.get_ref()) {
        Ok(regex) => Ok(regex.captures_len() - 1),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim().to_owned();
            Err(fault(
                path,
                format!("{:?} is not a regular expression: {reason}", path.get_ref()),
                "e.g. \"/market-data(/|$)(.*)\"",
            ))
        }
    }
}

/// ingress-nginx since 1.12 and Traefik refuse a regex under `Prefix` or `Exact`.
fn judge_plain_path(path: &Spanned<String>, path_type: &Spanned<PathType>) -> Result<(), Fault> {
    if path
        .get_ref()
        .contains(['(', ')', '*', '$', '|', '[', '\\', '^'])
    {
        return Err(fault(
            path_type,
            format!(
                "{:?} is a regular expression, which path_type {:?} cannot be",
                path.get_ref(),
                path_type.get_ref()
            ),
            "use path_type = \"ImplementationSpecific\"",
        ));
    }
    Ok(())
}

fn judge_rewrite(rewrite: &Spanned<String>, groups: Option<usize>) -> Result<(), Fault> {
    let text = rewrite.get_ref();
    let used = text
        .split('$')
        .skip(1)
        .filter_map(|rest| rest.chars().next()?.to_digit(10));
    let highest = used.max().unwrap_or(0) as usize;
    let there = groups.unwrap_or(0);
    if !text.starts_with('/') || highest > there {
        return Err(fault(
            rewrite,
            format!("rewrite {text:?} does not fit a path with {there} groups"),
            format!("start with '/' and use groups up to ${there} only"),
        ));
    }
    Ok(())
}

fn judge_deadlines(deadlines: &schema::Deadlines) -> Result<Deadlines, Fault> {
    Ok(Deadlines {
        build: judge_deadline(&deadlines.build)?,
        backing_services: judge_deadline(&deadlines.backing_services)?,
        service_ready: judge_deadline(&deadlines.service_ready)?,
        images: judge_deadline(&deadlines.images)?,
        cluster: judge_deadline(&deadlines.cluster)?,
        release: judge_deadline(&deadlines.release)?,
        check: judge_deadline(&deadlines.check)?,
        stop: judge_deadline(&deadlines.stop)?,
    })
}

pub(super) fn judge_deadline(seconds: &Spanned<u32>) -> Result<Duration, Fault> {
    match *seconds.get_ref() {
        value @ 1..=LONGEST_DEADLINE_SECONDS => Ok(Duration::from_secs(value.into())),
        other => Err(fault(
            seconds,
            format!("a deadline of {other} seconds is not possible"),
            format!("a whole number of seconds, 1 to {LONGEST_DEADLINE_SECONDS}"),
        )),
    }
}
