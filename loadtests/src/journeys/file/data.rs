//! Rows of a CSV file (RFC 4180), whose columns are variables of a journey.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use environments::config::hurl::{GIVEN_VARIABLES, is_variable_name};
use environments::config::load::{DataRows, JourneyData};
use environments::config::{Config, ConfigError};
use load_engine::journey::Rows;

/// The rows, which users take in turn.
#[derive(Debug)]
pub(super) struct UserData {
    pub rows: Rows,
    /// Who takes the next row.
    pub each: DataRows,
}

/// Counts the rows that the users of one run have taken.
#[derive(Debug, Default)]
pub(super) struct RowCounter(AtomicUsize);

impl RowCounter {
    pub fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl UserData {
    /// Reads the file.
    ///
    /// # Errors
    /// A file that cannot be read, or has no rows.
    pub fn read(
        config: &Config,
        workspace: &Path,
        data: &JourneyData,
    ) -> Result<UserData, Box<ConfigError>> {
        let refuse = |what: String| {
            let what = format!("cannot read {}: {what}", data.path.display());
            let help = "a CSV file with a line of column names, and a row or more";
            Box::new(config.refuse(data.place.clone(), what, Some(help.to_owned())))
        };
        let rows = parsed(&workspace.join(&data.path)).map_err(|it| refuse(it.to_string()))?;
        let columns = &rows.columns;
        for (number, name) in columns.iter().enumerate() {
            if !is_variable_name(name) {
                return Err(refuse(format!("{name:?} cannot name a variable")));
            }
            let is_given = GIVEN_VARIABLES.contains(&name.as_str());
            if is_given || config.tokens.contains_key(name) || columns[..number].contains(name) {
                return Err(refuse(format!("{{{{{name}}}}} is a variable already")));
            }
        }
        if rows.values.is_empty() {
            return Err(refuse("it has no rows".to_owned()));
        }
        Ok(UserData {
            rows,
            each: data.each,
        })
    }
}

fn parsed(path: &Path) -> Result<Rows, csv::Error> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)?;
    let texts = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect();
    let columns = texts(reader.headers()?);
    let rows = reader.records().map(|record| record.map(|it| texts(&it)));
    Ok(Rows {
        columns,
        values: rows.collect::<Result<_, _>>()?,
    })
}
