//! `[backing_services]`: what the platform needs beside it.

use std::fmt;
use std::ops::Range;

use toml::Spanned;

use super::Fault;
use super::schema::{BackingServiceTables, PostgresTable};
use super::shared_rules::fault;
use machine::tools::major_version;

/// The name of Postgres: its table, its recipe, and its part of an environment.
pub const POSTGRES: &str = "postgres";
/// The name of Redis.
pub const REDIS: &str = "redis";

/// The backing services that the platform needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformBackingServices {
    /// Postgres.
    pub postgres: Option<PlatformPostgres>,
    /// Redis.
    pub redis: Option<PlatformRedis>,
}

/// Postgres, as the platform needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformPostgres {
    /// Its version, if not any will do.
    pub version: Option<MajorVersion>,
    /// The database in `{database_url}`.
    pub database: String,
    /// The user in `{database_url}`, a superuser.
    pub user: String,
}

/// Redis, as the platform needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformRedis {
    /// Its version, if not any will do.
    pub version: Option<MajorVersion>,
}

/// A major version, such as `15`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MajorVersion {
    number: u32,
    /// Where harness.toml has it.
    pub place: Range<usize>,
}

impl MajorVersion {
    /// Returns whether `version` is of this major version: `15.13-bookworm`, or the line that a
    /// program prints.
    pub fn includes(&self, version: &str) -> bool {
        major_version(version) == Some(self.number)
    }
}

impl fmt::Display for MajorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

impl PlatformBackingServices {
    /// Returns whether it has none.
    pub fn is_none(&self) -> bool {
        self.postgres.is_none() && self.redis.is_none()
    }

    /// Returns the names of those of which only one version will do, each with that.
    pub fn versions(&self) -> impl Iterator<Item = (&'static str, &MajorVersion)> {
        let postgres = self.postgres.as_ref().and_then(|it| it.version.as_ref());
        let redis = self.redis.as_ref().and_then(|it| it.version.as_ref());
        let all = [
            postgres.map(|it| (POSTGRES, it)),
            redis.map(|it| (REDIS, it)),
        ];
        all.into_iter().flatten()
    }
}

impl fmt::Display for PlatformBackingServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (&self.postgres, &self.redis) {
            (Some(_), Some(_)) => "Postgres and Redis",
            (Some(_), None) => "Postgres",
            (None, Some(_)) => "Redis",
            (None, None) => "no backing service",
        })
    }
}

pub(super) fn validate(tables: &BackingServiceTables) -> Result<PlatformBackingServices, Fault> {
    let postgres = tables.postgres.as_ref().map(validate_postgres);
    let redis = tables.redis.as_ref().map(|table| {
        Ok::<_, Fault>(PlatformRedis {
            version: validate_version(table.version.as_ref())?,
        })
    });
    Ok(PlatformBackingServices {
        postgres: postgres.transpose()?,
        redis: redis.transpose()?,
    })
}

fn validate_postgres(table: &PostgresTable) -> Result<PlatformPostgres, Fault> {
    Ok(PlatformPostgres {
        version: validate_version(table.version.as_ref())?,
        database: validate_name(table.database.as_ref(), "postgres", |it| {
            // Each new server has these.
            ["template0", "template1"].contains(&it)
        })?,
        // initdb reserves the prefix.
        user: validate_name(table.user.as_ref(), "trii", |it| it.starts_with("pg_"))?,
    })
}

fn validate_version(version: Option<&Spanned<String>>) -> Result<Option<MajorVersion>, Fault> {
    let Some(version) = version else {
        return Ok(None);
    };
    match version.get_ref().parse() {
        Ok(number) if number > 0 => Ok(Some(MajorVersion {
            number,
            place: version.span(),
        })),
        _ => Err(fault(
            version,
            format!("{:?} is not a major version", version.get_ref()),
            "the first number alone, e.g. \"15\"",
        )),
    }
}

/// Postgres' limit for names, in bytes.
const LONGEST_NAME: usize = 63;

/// A name that needs no escape in a URL.
fn validate_name(
    name: Option<&Spanned<String>>,
    default: &str,
    is_reserved: impl Fn(&str) -> bool,
) -> Result<String, Fault> {
    let Some(name) = name else {
        return Ok(default.to_owned());
    };
    let text = name.get_ref();
    let letter = |c: char| c.is_ascii_lowercase() || c == '_';
    let valid = text.starts_with(letter)
        && text.len() <= LONGEST_NAME
        && text
            .chars()
            .all(|c| letter(c) || c.is_ascii_digit() || c == '-');
    if !valid {
        return Err(fault(
            name,
            format!("{text:?} cannot be the name of a database or a user here"),
            format!(
                "1 to {LONGEST_NAME} lower-case letters, digits, '_' and '-', e.g. {default:?}"
            ),
        ));
    }
    match is_reserved(text) {
        false => Ok(text.clone()),
        true => Err(fault(
            name,
            format!("Postgres itself has {text:?}, or reserves it"),
            format!("another name, e.g. {default:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_or_the_line_of_a_program_is_of_a_major_version() {
        let fifteen = MajorVersion {
            number: 15,
            place: 0..0,
        };
        for (version, expected) in [
            ("15", true),
            ("15.13-bookworm", true),
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", true),
            ("postgres (PostgreSQL) 16.1", false),
            ("postgres (PostgreSQL) 18beta1", false),
            ("1.5", false),
            ("150", false),
            ("latest", false),
            ("", false),
        ] {
            assert_eq!(fifteen.includes(version), expected, "{version}");
        }
    }
}
