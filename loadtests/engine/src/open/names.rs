//! The names that results are kept by, few whatever is asked.

use std::collections::HashMap;

/// So many names are kept apart; the rest goes by [`OTHER`].
pub const NAMES_AT_MOST: usize = 500;
/// What goes by no name of its own.
pub const OTHER: &str = "(other)";

/// Gives each name a number, up to a cap: who names every URL apart gets a result of a size
/// that can be read, and memory that does not grow.
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
    /// The name's number, which is [`OTHER`]'s once there are [`NAMES_AT_MOST`].
    pub fn number(&mut self, name: &str) -> u16 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        if self.numbers.len() == NAMES_AT_MOST {
            return 0;
        }
        let number = u16::try_from(self.listed.len()).expect("the cap is far below");
        self.numbers.insert(name.to_owned(), number);
        self.listed.push(name.to_owned());
        number
    }

    /// All of them by their number; the first is [`OTHER`].
    pub fn listed(&self) -> &[String] {
        &self.listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_names_are_a_few_and_the_others() {
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
