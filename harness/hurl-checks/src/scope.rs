//! The variables that a part of a file may read.

use std::cell::RefCell;
use std::collections::BTreeSet;

use hurl_core::ast::{Expr, ExprKind};

use crate::error::Refusal;
use crate::source::Source;

/// The variables of the caller, and those that the entries up to this one capture.
pub(crate) struct Scope<'a> {
    pub source: &'a Source<'a>,
    names: BTreeSet<String>,
    /// Those that this entry reads from its caller or an earlier entry.
    read: RefCell<BTreeSet<String>>,
    /// Those that this entry captures.
    captured: BTreeSet<String>,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(source: &'a Source<'a>, known: &BTreeSet<String>) -> Scope<'a> {
        Scope {
            source,
            names: known.clone(),
            read: RefCell::default(),
            captured: BTreeSet::new(),
        }
    }

    /// Ends an entry. Returns the variables that must have a value before it.
    pub(crate) fn end_entry(&mut self) -> BTreeSet<String> {
        self.captured.clear();
        self.read.take()
    }

    /// Adds a variable that an entry captures.
    pub(crate) fn define(&mut self, name: &str) {
        self.names.insert(name.to_owned());
        self.captured.insert(name.to_owned());
    }

    /// Returns the variable that a placeholder reads.
    pub(crate) fn variable(&self, expr: &Expr) -> Result<String, Refusal> {
        match &expr.kind {
            ExprKind::Variable(variable) if self.names.contains(&variable.name) => {
                let name = variable.name.clone();
                if !self.captured.contains(&name) {
                    self.read.borrow_mut().insert(name.clone());
                }
                Ok(name)
            }
            ExprKind::Variable(variable) => Err(self.unknown(&variable.name, expr)),
            ExprKind::Function(function) => Err(Refusal::new(
                expr.source_info,
                format!("calls {{{{{function}}}}}, which is not supported"),
                "use a variable that the caller sets: a check sends the same request each time",
            )),
        }
    }

    fn unknown(&self, name: &str, expr: &Expr) -> Refusal {
        let distance = |known: &&String| strsim::damerau_levenshtein(known, name);
        let nearest = self.names.iter().min_by_key(distance);
        let nearest = nearest.filter(|known| distance(known) <= name.len() / 2);
        let nearest = nearest.map(|nearest| format!(", nearest: {nearest}"));
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let known = match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        };
        let nearest = nearest.unwrap_or_default();
        Refusal::new(
            expr.source_info,
            format!(
                "reads {{{{{name}}}}}, which no earlier request captures; known: {known}{nearest}"
            ),
            "capture it in an earlier entry, under [Captures], or write a known name",
        )
    }
}
