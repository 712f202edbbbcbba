//! The names under which results are counted, up to a limit.

use std::collections::HashMap;

/// The most names; the rest is counted as [`OTHER`].
pub const NAMES_AT_MOST: usize = 500;
/// The name under which all further names are counted.
pub const OTHER: &str = "(other)";

/// Gives each name a number, up to a limit: a name for every URL must not fill the memory.
#[derive(Clone, Debug)]
pub struct Names {
    numbers: HashMap<String, u16>,
    listed: Vec<String>,
}

impl Default for Names {
    fn default() -> Names {
        Names {
            numbers: HashMap::new(),
            listed: vec![OTHER.to_owned()],
        }
    }
}

impl Names {
    /// Returns the name's number. Beyond [`NAMES_AT_MOST`], new names get that of [`OTHER`].
    pub fn number(&mut self, name: &str) -> u16 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        if self.numbers.len() == NAMES_AT_MOST {
            return 0;
        }
        let number = u16::try_from(self.listed.len()).expect("the limit is far below");
        self.numbers.insert(name.to_owned(), number);
        self.listed.push(name.to_owned());
        number
    }

    /// Returns all names by number. The first is [`OTHER`].
    pub fn listed(&self) -> &[String] {
        &self.listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_are_counted_as_other() {
        let mut names = Names::default();
        for number in 0..1_000_000 {
            names.number(&format!("GET /quotes/{number}"));
        }
        assert_eq!(names.listed().len(), NAMES_AT_MOST + 1);
        assert_eq!(names.number("GET /quotes/0"), 1);
        assert_eq!(names.number("GET /quotes/499"), 500);
        let beyond = usize::from(names.number("GET /quotes/500"));
        assert_eq!(names.listed()[beyond], OTHER);
    }
}
