//! Validates `harness.toml`.

use std::collections::BTreeMap;

use regex::Regex;
use toml::Spanned;

use super::schema::{self, BackingServices, PathType, TargetKind};
use super::shared_rules::{
    fault, is_label, needed, validate_deadline, validate_host, validate_namespace,
};
use super::{
    AUTO, Config, Deadlines, Fault, KindTarget, LocalTarget, Platform, ReadyFile, Route, Target,
    Written, backing_services, blue_green, blue_green_scenarios, checks, load, local, releases,
    remote, rolling, services, versions,
};
use base::text::nearest;

const SCHEMA: u32 = 1;

pub(super) fn validate(file: schema::File, written: Written) -> Result<Config, Fault> {
    validate_schema(&file.schema)?;
    let targets = file.targets.iter();
    let targets = targets
        .map(|(name, target)| Ok((validate_target_name(name)?, validate_target(target)?)))
        .collect::<Result<_, Fault>>()?;
    remote::validate_production(&file.targets, &targets, &written.text)?;
    let default_target = match &file.default_target {
        Some(name) => validate_default_target(name, &targets)?,
        None => AUTO.to_owned(),
    };
    let routes = file.routes.iter();
    let routes = routes.map(|route| validate_route(route, &file.services));
    let mut routes = routes.collect::<Result<Vec<_>, _>>()?;
    releases::validate_targets(&file)?;
    validate_unique_routes(&file.routes)?;
    // As ingress-nginx orders its locations: the longest first, and an exact path before others of
    // its length (Kubernetes, "Multiple matches"). Otherwise the file's order.
    routes.sort_by_key(|route| {
        let exact = route.path_type == PathType::Exact;
        (std::cmp::Reverse(route.path.len()), !exact)
    });
    let of_services = file.services.values().flat_map(|it| it.local.env.values());
    for text in file.platform.local.env.values().chain(of_services) {
        releases::validate_backing_service(text, &file)?;
    }
    let (checks, coded_checks) = checks::validate_checks(&file.checks)?;
    let local_defaults = local::LocalDefaults {
        platform: &file.platform.local,
        needed: targets.values().any(|it| matches!(it, Target::Local(_))),
    };
    let versions = versions::validate(&file)?;
    let platform = validate_platform(&file.platform)?;
    validate_helpers_namespace(&file)?;
    let rolling = rolling::validate(&file)?;
    let blue_green_scenarios = blue_green_scenarios::validate(&file)?;
    let load = load::validate(&file.load, &file.profiles)?;
    Ok(Config {
        platform,
        backing_services: backing_services::validate(&file.backing_services)?,
        releases: releases::validate_releases(&file.releases)?,
        images: releases::validate_images(&file.images)?,
        secrets: releases::validate_secrets(&file)?,
        services: services::validate(&file.services, &local_defaults)?,
        default_target,
        targets,
        routes,
        checks,
        coded_checks,
        tokens: checks::validate_tokens(file.tokens)?,
        deadlines: validate_deadlines(&file.deadlines)?,
        blue_green: blue_green::validate(&file.blue_green, &file.services, versions.clone())?,
        versions,
        blue_green_scenarios,
        rolling,
        profiles: load::validate_profiles(file.profiles, &load)?,
        load,
        written,
    })
}

fn validate_schema(schema: &Spanned<u32>) -> Result<(), Fault> {
    match *schema.get_ref() {
        SCHEMA => Ok(()),
        other => Err(fault(
            schema,
            format!("schema {other} is not known"),
            format!("this version reads schema {SCHEMA}"),
        )),
    }
}

/// A target's name must be able to name an environment.
fn validate_target_name(name: &Spanned<String>) -> Result<String, Fault> {
    let text = name.get_ref();
    match text.as_str() {
        AUTO => Err(fault(
            name,
            format!("no target can be called {AUTO:?}"),
            "it selects a target by what this machine has; choose another name",
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

/// So that the names of containers and clusters can contain it.
const LONGEST_NAME: usize = 30;

/// Returns whether the text can name an environment: a short RFC 1123 label.
pub fn names_environment(text: &str) -> bool {
    text.len() <= LONGEST_NAME && is_label(text)
}

const MOST_NODES: u16 = 9;

fn validate_target(target: &schema::TargetTable) -> Result<Target, Fault> {
    let kind = &target.kind;
    validate_keys(target)?;
    match kind.get_ref() {
        TargetKind::Local => Ok(Target::Local(LocalTarget {
            backing_services: value(&target.backing_services).unwrap_or(BackingServices::Auto),
            router_port: value(&target.router_port).unwrap_or(0),
        })),
        TargetKind::Kind => Ok(Target::Kind(KindTarget {
            kubernetes: validate_kubernetes(needed(kind, "kubernetes", &target.kubernetes)?)?,
            nodes: target.nodes.as_ref().map_or(Ok(1), validate_nodes)?,
            ingress_port: value(&target.ingress_port).unwrap_or(0),
            namespace: validate_namespace(needed(kind, "namespace", &target.namespace)?)?,
            values: value(&target.values).unwrap_or_default(),
            set: releases::validate_set(target.set.as_ref())?,
            service_env: match &target.service_env {
                Some(path) => Some(releases::validate_service_env(path)?),
                None => None,
            },
        })),
        TargetKind::Remote => Ok(Target::Remote(Box::new(remote::validate(target)?))),
    }
}

fn value<T: Clone>(written: &Option<Spanned<T>>) -> Option<T> {
    written.as_ref().map(|it| it.get_ref().clone())
}

/// A key of another kind of target would have no effect.
fn validate_keys(target: &schema::TargetTable) -> Result<(), Fault> {
    let kind = target.kind.get_ref();
    let unknown = target.keys().find(|(key, _)| !kind.keys().contains(key));
    match unknown {
        None => Ok(()),
        Some((key, span)) => Err(Fault {
            span,
            message: format!(
                "{key} does not apply to a target of the kind {:?}",
                kind.name()
            ),
            help: Some("leave it out".into()),
        }),
    }
}

/// `fixtures/images` has the supported versions.
fn validate_kubernetes(version: &Spanned<String>) -> Result<String, Fault> {
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

fn validate_nodes(nodes: &Spanned<u16>) -> Result<u16, Fault> {
    match *nodes.get_ref() {
        some @ 1..=MOST_NODES => Ok(some),
        other => Err(fault(
            nodes,
            format!("a cluster of {other} nodes is not possible"),
            format!("1 to {MOST_NODES}, the control plane included"),
        )),
    }
}

fn validate_default_target(
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

fn validate_platform(platform: &schema::PlatformTable) -> Result<Platform, Fault> {
    let version = platform.version.get_ref();
    let tag = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if version.is_empty() || version.len() > 128 || !version.chars().all(tag) {
        return Err(fault(
            &platform.version,
            format!("version {version:?} cannot be an image tag"),
            "up to 128 letters, digits, '.', '_' and '-', e.g. \"v2.1.0\"",
        ));
    }
    if let Some(name) = &platform.tls_secret {
        releases::validate_secret_name(name)?;
    }
    if platform.name.get_ref().trim().is_empty() {
        return Err(fault(
            &platform.name,
            "a platform without a name".to_owned(),
            "what reports call it, e.g. \"TRII\"",
        ));
    }
    let api_host = platform.api_host.as_ref().unwrap_or(&platform.site_host);
    Ok(Platform {
        name: platform.name.get_ref().clone(),
        version: version.clone(),
        site_host: validate_host(&platform.site_host)?,
        api_host: validate_host(api_host)?,
        manifests: platform.manifests.clone(),
        tls_secret: value(&platform.tls_secret),
        ready: platform.ready.as_ref().map(|file| ReadyFile {
            path: file.get_ref().clone(),
            place: file.span(),
        }),
        helpers_namespace: match &platform.helpers_namespace {
            Some(name) => validate_namespace(name)?,
            None => HELPERS.to_owned(),
        },
        local: local::validate_platform(&platform.local)?,
    })
}

/// The namespace for helper pods, by default.
const HELPERS: &str = "rehearsal-helpers";

/// Beside the releases, a Service might send its requests to a helper pod. And on a remote target,
/// helper pods may be deleted.
fn validate_helpers_namespace(file: &schema::File) -> Result<(), Fault> {
    let Some(helpers) = &file.platform.helpers_namespace else {
        return Ok(());
    };
    let is_of = |target: &schema::TargetTable| {
        let namespace = target.namespace.as_ref();
        namespace.is_some_and(|it| it.get_ref() == helpers.get_ref())
    };
    match file.targets.iter().find(|(_, target)| is_of(target)) {
        None => Ok(()),
        Some((target, _)) => Err(fault(
            helpers,
            format!(
                "the namespace {:?} has the releases of the target {}",
                helpers.get_ref(),
                target.get_ref()
            ),
            "choose another: helper pods are not beside the platform's",
        )),
    }
}

fn validate_route(
    route: &schema::RouteEntry,
    services: &BTreeMap<Spanned<String>, schema::ServiceTable>,
) -> Result<Route, Fault> {
    services::validate_reference(&route.service, services)?;
    let path = route.path.get_ref();
    if !path.starts_with('/') {
        return Err(fault(
            &route.path,
            format!("path {path:?} does not start with '/'"),
            "e.g. \"/api\"",
        ));
    }
    let groups = match route.path_type.get_ref() {
        PathType::ImplementationSpecific => Some(validate_regex(&route.path)?),
        PathType::Exact | PathType::Prefix => {
            validate_plain_path(&route.path, &route.path_type)?;
            None
        }
    };
    if let Some(rewrite) = &route.rewrite {
        validate_rewrite(rewrite, groups)?;
    }
    Ok(Route {
        host: validate_host(&route.host)?,
        path: path.clone(),
        path_type: *route.path_type.get_ref(),
        rewrite: route.rewrite.as_ref().map(|r| r.get_ref().clone()),
        service: route.service.get_ref().clone(),
    })
}

/// The second of two equal routes would never be used.
fn validate_unique_routes(routes: &[schema::RouteEntry]) -> Result<(), Fault> {
    let key = |route: &schema::RouteEntry| {
        let (host, path) = (route.host.get_ref().clone(), route.path.get_ref().clone());
        (host, path, *route.path_type.get_ref())
    };
    for (at, route) in routes.iter().enumerate() {
        let Some(earlier) = routes[..at].iter().find(|it| key(it) == key(route)) else {
            continue;
        };
        let (host, path) = (route.host.get_ref(), route.path.get_ref());
        return Err(fault(
            &route.path,
            format!(
                "{host}{path} leads to {} already, and now to {}",
                earlier.service.get_ref(),
                route.service.get_ref()
            ),
            "keep one of the two routes",
        ));
    }
    Ok(())
}

/// Returns the number of the expression's groups.
fn validate_regex(path: &Spanned<String>) -> Result<usize, Fault> {
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
fn validate_plain_path(path: &Spanned<String>, path_type: &Spanned<PathType>) -> Result<(), Fault> {
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

fn validate_rewrite(rewrite: &Spanned<String>, groups: Option<usize>) -> Result<(), Fault> {
    let text = rewrite.get_ref();
    let used = text
        .split('$')
        .skip(1)
        .filter_map(|rest| rest.chars().next()?.to_digit(10));
    let highest = used.max().unwrap_or(0) as usize;
    let groups = groups.unwrap_or(0);
    if !text.starts_with('/') || highest > groups {
        return Err(fault(
            rewrite,
            format!("rewrite {text:?} does not fit a path with {groups} groups"),
            format!("start with '/' and use groups up to ${groups} only"),
        ));
    }
    Ok(())
}

fn validate_deadlines(deadlines: &schema::DeadlinesTable) -> Result<Deadlines, Fault> {
    Ok(Deadlines {
        build: validate_deadline(&deadlines.build)?,
        backing_services: validate_deadline(&deadlines.backing_services)?,
        service_ready: validate_deadline(&deadlines.service_ready)?,
        images: validate_deadline(&deadlines.images)?,
        cluster: validate_deadline(&deadlines.cluster)?,
        release: validate_deadline(&deadlines.release)?,
        check: validate_deadline(&deadlines.check)?,
        stop: validate_deadline(&deadlines.stop)?,
    })
}
