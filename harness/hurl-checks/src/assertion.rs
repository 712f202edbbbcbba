//! The result of an assert.

use std::fmt;
use std::sync::Arc;

/// An assert or a capture, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Its line in the file, from 1.
    pub line: usize,
    /// Its line as the file has it.
    pub text: Arc<str>,
    /// What was wrong, if it failed.
    pub failure: Option<Failure>,
}

/// Why an assertion failed. It shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What must hold, as in `== 200`.
    pub expected: String,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)?;
        match &self.failure {
            None => Ok(()),
            Some(Failure { expected, seen }) => {
                write!(f, "\n  expected: {expected}\n  seen:     {seen}")
            }
        }
    }
}
