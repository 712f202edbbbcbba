//! How long each image took that had to be built.

use std::fmt;

use crate::duration::human;

/// An image that was built, and how long that took, what it is built upon left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its name.
    pub name: String,
    /// Milliseconds.
    pub millis: u64,
}

/// What was built at one time. Two images are built at the same time, so that all together
/// take less than their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// The images, in the order in which they were done.
    pub built: Vec<Built>,
    /// From the beginning to the end of it all, milliseconds.
    pub millis: u64,
}

impl Split {
    /// Nothing had to be built.
    pub fn is_empty(&self) -> bool {
        self.built.is_empty()
    }

    /// In one line, for a report.
    pub fn in_words(&self) -> String {
        let images = self.built.iter();
        let images = images.map(|image| format!("{} {}", image.name, human(image.millis)));
        let images = images.collect::<Vec<_>>().join(", ");
        format!("images built in {}: {images}", human(self.millis))
    }
}

/// As a table, one image a line.
impl fmt::Display for Split {
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
    fn each_image_is_told_and_all_together() {
        let built = |name: &str, millis| Built {
            name: name.to_owned(),
            millis,
        };
        let split = Split {
            built: vec![built("base", 35_200), built("kubernetes", 391_000)],
            millis: 400_000,
        };
        insta::assert_snapshot!(split);
        insta::assert_snapshot!(split.in_words());
    }
}
