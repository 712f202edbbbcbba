//! The time that each build of an image took.

use std::fmt;

use base::duration::human;

/// An image that was built, and the time of its build without what it is built upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its name.
    pub name: String,
    /// Milliseconds.
    pub millis: u64,
}

/// The images of one build. Two are built at the same time, so the total is less than the sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildTimes {
    /// The images, in the order in which they were finished.
    pub built: Vec<Built>,
    /// The total time, milliseconds.
    pub millis: u64,
}

impl BuildTimes {
    /// Returns whether nothing was built.
    pub fn is_empty(&self) -> bool {
        self.built.is_empty()
    }

    /// Returns one line for a report.
    pub fn summary(&self) -> String {
        let images = self.built.iter();
        let images = images.map(|image| format!("{} {}", image.name, human(image.millis)));
        let images = images.collect::<Vec<_>>().join(", ");
        format!("images built in {}: {images}", human(self.millis))
    }
}

/// As a table, one image a line.
impl fmt::Display for BuildTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, millis| writeln!(f, "{name:<24} {:>12}", human(millis));
        for image in &self.built {
            row(&image.name, image.millis)?;
        }
        row("all, two at a time", self.millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_is_listed_with_its_time_and_the_total() {
        let built = |name: &str, millis| Built {
            name: name.to_owned(),
            millis,
        };
        let split = BuildTimes {
            built: vec![built("base", 35_200), built("kubernetes", 391_000)],
            millis: 400_000,
        };
        insta::assert_snapshot!(split);
        insta::assert_snapshot!(split.summary());
    }
}
