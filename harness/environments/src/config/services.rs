//! The services of the platform.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;

use super::Fault;
use super::local::{LocalDefaults, LocalService};
use super::placeholders::{NAMES, names_in};
use super::schema::ServiceTable;
use super::shared_rules::{fault, is_label, validate_variable_name};
use base::text::nearest;

/// A service of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformService {
    /// Its name, also of its Service in a cluster.
    pub name: String,
    /// The services that it calls, each with the environment variable for its URL.
    pub calls: BTreeMap<String, String>,
    /// Additional environment variables.
    pub env: BTreeMap<String, String>,
    /// Whether it is released blue-green. The local target has two colours of one such service.
    pub blue_green: bool,
    /// Its process on the local target.
    pub local: LocalService,
    /// Where harness.toml has its name.
    pub place: Range<usize>,
}

type Tables = BTreeMap<Spanned<String>, ServiceTable>;

/// Other parts of an environment on the local target.
const OTHER_PARTS: [&str; 6] = [
    "build",
    "postgres",
    "prepare",
    "redis",
    "router",
    "supervisor",
];

/// Returns the services, each after those that it calls, else in the file's order.
pub(super) fn validate(
    tables: &Tables,
    local_defaults: &LocalDefaults<'_>,
) -> Result<Vec<PlatformService>, Fault> {
    let mut remaining: Vec<_> = tables.iter().collect();
    remaining.sort_by_key(|(name, _)| name.span().start);
    for (name, table) in &remaining {
        validate_name(name)?;
        validate_unique(name, tables)?;
        validate_variables(table, tables, local_defaults)?;
    }
    let mut with_colours = remaining.iter().filter(|(_, table)| table.blue_green);
    if let Some((second, _)) = with_colours.nth(1) {
        return Err(fault(
            second,
            "blue_green is true for two services".to_owned(),
            "the local target has two colours of one service at most",
        ));
    }
    let mut started = BTreeSet::new();
    let mut services = Vec::new();
    while !remaining.is_empty() {
        let can_start = |(_, table): &(&Spanned<String>, &ServiceTable)| {
            let mut calls = table.calls.keys();
            calls.all(|called| started.contains(called.get_ref()))
        };
        let Some(next) = remaining.iter().position(can_start) else {
            return Err(cycle(&remaining));
        };
        let (name, table) = remaining.remove(next);
        started.insert(name.get_ref().clone());
        services.push(service(name, table, local_defaults)?);
    }
    Ok(services)
}

fn service(
    name: &Spanned<String>,
    table: &ServiceTable,
    local_defaults: &LocalDefaults<'_>,
) -> Result<PlatformService, Fault> {
    let calls = table.calls.iter();
    let env = table.env.iter();
    Ok(PlatformService {
        name: name.get_ref().clone(),
        calls: calls
            .map(|(called, variable)| (called.get_ref().clone(), variable.get_ref().clone()))
            .collect(),
        env: env
            .map(|(variable, value)| (variable.get_ref().clone(), value.clone()))
            .collect(),
        blue_green: table.blue_green,
        local: local_defaults.validate(name, table)?,
        place: name.span(),
    })
}

fn validate_name(name: &Spanned<String>) -> Result<(), Fault> {
    match is_label(name.get_ref()) {
        true => Ok(()),
        false => Err(fault(
            name,
            format!("{:?} cannot name a service", name.get_ref()),
            "1 to 63 lower-case letters, digits and '-', as a Service in a cluster",
        )),
    }
}

/// A name must not be that of another part: a Service or a pod of a service with two colours, too.
fn validate_unique(name: &Spanned<String>, tables: &Tables) -> Result<(), Fault> {
    let mut with_colours = tables.iter().filter(|(_, table)| table.blue_green);
    let is_of_colours = with_colours.any(|(service, _)| {
        let suffix = name.get_ref().strip_prefix(service.get_ref().as_str());
        matches!(suffix, Some("-preview" | "-blue" | "-green"))
    });
    match is_of_colours || OTHER_PARTS.contains(&name.get_ref().as_str()) {
        false => Ok(()),
        true => Err(fault(
            name,
            format!(
                "{:?} is the name of another part of an environment",
                name.get_ref()
            ),
            "choose another name for the service",
        )),
    }
}

fn validate_variables(
    table: &ServiceTable,
    tables: &Tables,
    local_defaults: &LocalDefaults<'_>,
) -> Result<(), Fault> {
    for called in table.calls.keys() {
        validate_reference(called, tables)?;
    }
    for variable in table.calls.values().chain(table.env.keys()) {
        validate_variable_name(variable)?;
        let text = variable.get_ref();
        if local_defaults.platform.env.contains_key(text.as_str()) {
            return Err(fault(
                variable,
                format!("{text} is set by [platform.local.env]"),
                "leave it out, or set it in [services.NAME.local.env]; secrets never belong in this file",
            ));
        }
        let urls = table.calls.values().filter(|it| it.get_ref() == text);
        let env = [
            table.env.contains_key(text.as_str()),
            table.local.env.contains_key(text.as_str()),
        ];
        let values = urls.clone().count() + env.into_iter().filter(|it| *it).count();
        if urls.count() > 0 && values > 1 {
            return Err(fault(
                variable,
                format!("{text} has the URL of a service, and another value"),
                "give one of them another name",
            ));
        }
    }
    for (variable, value) in &table.env {
        if let Some(name) = names_in(value).find(|it| NAMES.contains(it)) {
            return Err(fault(
                variable,
                format!("{{{name}}} is replaced on the local target only"),
                "set the variable in [services.NAME.local.env]",
            ));
        }
    }
    Ok(())
}

/// Refuses a name that no service has.
pub(super) fn validate_reference(name: &Spanned<String>, tables: &Tables) -> Result<(), Fault> {
    match tables.contains_key(name.get_ref().as_str()) {
        true => Ok(()),
        false => Err(Fault {
            span: name.span(),
            message: format!("no service is called {:?}", name.get_ref()),
            help: nearest(
                name.get_ref(),
                tables.keys().map(|it| it.get_ref().as_str()),
            )
            .or_else(|| Some("define it under [services]".into())),
        }),
    }
}

/// Each of `remaining` calls another of them. Follows the calls until one repeats.
fn cycle(remaining: &[(&Spanned<String>, &ServiceTable)]) -> Fault {
    let called_by = |name: &str| {
        let (_, table) = remaining.iter().find(|(it, _)| it.get_ref() == name)?;
        let is_remaining = |called: &&Spanned<String>| {
            remaining
                .iter()
                .any(|(it, _)| it.get_ref() == called.get_ref())
        };
        table.calls.keys().find(is_remaining)
    };
    let mut path = vec![remaining[0].0];
    let place = loop {
        let Some(next) = path.last().and_then(|last| called_by(last.get_ref())) else {
            break path[0];
        };
        if let Some(first) = path.iter().position(|it| it.get_ref() == next.get_ref()) {
            path.drain(..first);
            path.push(next);
            break next;
        }
        path.push(next);
    };
    let names: Vec<&str> = path.iter().map(|it| it.get_ref().as_str()).collect();
    fault(
        place,
        format!(
            "services call each other in a circle: {}",
            names.join(" -> ")
        ),
        "none of them could start first; leave out the call that a start does not need",
    )
}
