//! The text of a configuration, part by part. What the configuration's own parser refuses becomes a
//! comment with the reason, so that the text is always accepted.

use std::path::{Path, PathBuf};

use serde::Serialize;

use environments::config::{Config, ConfigError};

/// The longest line of a comment.
const WIDTH: usize = 100;

/// What a person must say, or decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToDo {
    /// The line of the configuration, from 1.
    pub line: usize,
    /// What is missing.
    pub what: String,
}

/// The text of a configuration.
pub(super) struct Draft {
    path: PathBuf,
    text: String,
    to_do: Vec<ToDo>,
}

impl Draft {
    /// Returns an empty text of the file `path`.
    pub fn new(path: &Path) -> Draft {
        Draft {
            path: path.to_owned(),
            text: String::new(),
            to_do: Vec::new(),
        }
    }

    /// Returns the text, and what a person must say.
    ///
    /// # Errors
    /// The configuration's parser refuses it.
    pub fn finish(self) -> Result<(String, Vec<ToDo>), ConfigError> {
        Config::parse(&self.path, &self.text)?;
        Ok((self.text, self.to_do))
    }

    /// Adds text as it is.
    pub fn raw(&mut self, text: &str) {
        self.text += text;
    }

    /// Adds an empty line.
    pub fn blank(&mut self) {
        self.raw("\n");
    }

    /// Adds a comment.
    pub fn comment(&mut self, text: &str) {
        for line in wrapped(text) {
            self.raw(&format!("# {line}\n"));
        }
    }

    /// Adds a comment that a person must act on.
    pub fn add_to_do(&mut self, what: &str) {
        self.to_do.push(ToDo {
            line: self.text.lines().count() + 1,
            what: what.to_owned(),
        });
        self.comment(&format!("TO DO: {what}"));
    }

    /// Adds text as an example, commented out.
    pub fn example(&mut self, text: &str) {
        for line in text.lines() {
            let line = format!("# {line}");
            self.raw(&format!("{}\n", line.trim_end()));
        }
    }

    /// Adds a table. If the parser refuses it, it is commented out, and the reason is a [`ToDo`].
    pub fn table(&mut self, table: &str) {
        match Config::parse(&self.path, &format!("{}{table}", self.text)) {
            Ok(_) => self.raw(table),
            Err(error) => {
                self.add_to_do(&reason(&error));
                self.example(table);
            }
        }
    }
}

/// The parser's message and remedy, without the place.
fn reason(error: &ConfigError) -> String {
    match error {
        ConfigError::Refused { message, help, .. } => match help {
            Some(help) => format!("{message}; {help}"),
            None => message.clone(),
        },
        ConfigError::Unreadable { .. } => error.to_string(),
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let fits = |line: &&mut String| line.len() + 1 + word.len() <= WIDTH;
        match lines.last_mut().filter(fits) {
            Some(line) => *line += &format!(" {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}
