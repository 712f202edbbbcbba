//! How the versions of services are known: `[platform.headers]` and `services.NAME.version`.

use std::collections::BTreeMap;

use toml::Spanned;

use super::Fault;
use super::schema::{File, ServiceTable, VersionTable};
use super::shared_rules::{fault, validate_header, validate_path};
use blue_green::{VersionPath, VersionSource, VersionSources};
use kubernetes::prober::IdentityHeaders;

/// The text for [`VersionSource::Image`].
const IMAGE: &str = "image";

pub(super) fn validate(file: &File) -> Result<VersionSources, Fault> {
    let headers = &file.platform.headers;
    let name = |header: &Option<Spanned<String>>| header.as_ref().map(validate_header).transpose();
    Ok(VersionSources {
        headers: IdentityHeaders {
            service: name(&headers.service)?,
            version: name(&headers.version)?,
            instance: name(&headers.instance)?,
        },
        services: validate_services(&file.services)?,
    })
}

fn validate_services(
    services: &BTreeMap<Spanned<String>, ServiceTable>,
) -> Result<BTreeMap<String, VersionSource>, Fault> {
    let mut sources = BTreeMap::new();
    for (name, table) in services {
        if let Some(version) = &table.version {
            sources.insert(name.get_ref().clone(), validate_source(version)?);
        }
    }
    Ok(sources)
}

fn validate_source(version: &Spanned<VersionTable>) -> Result<VersionSource, Fault> {
    match version.get_ref() {
        VersionTable::Text(text) if text == IMAGE => Ok(VersionSource::Image),
        VersionTable::Text(text) => Err(fault(
            version,
            format!("{text:?} does not say how a version is known"),
            "\"image\", or the request that the service answers with its version: { path = \"/version\", json = \"/version\" }",
        )),
        VersionTable::Request { path, json } => Ok(VersionSource::Path(VersionPath {
            path: validate_path(path, "/version")?,
            json: json.as_ref().map(validate_pointer).transpose()?,
        })),
    }
}

/// RFC 6901, section 3.
fn validate_pointer(pointer: &Spanned<String>) -> Result<String, Fault> {
    let text = pointer.get_ref();
    let is_escape = |rest: &str| rest.starts_with(['0', '1']);
    let is_pointer = text.is_empty() || text.starts_with('/');
    match is_pointer && text.split('~').skip(1).all(is_escape) {
        true => Ok(text.clone()),
        false => Err(fault(
            pointer,
            format!("{text:?} is not a JSON pointer"),
            "each member after a '/', with '~1' for '/' and '~0' for '~', e.g. \"/build/version\"",
        )),
    }
}
