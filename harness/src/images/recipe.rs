//! `fixtures/images/<name>`: what makes an image, and the hash of all of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio_tar::{Builder, Header};

use super::{Had, ImageReference};

/// Enough of the hash to tell contents apart and be read aloud.
const TAG_LENGTH: usize = 12;

/// A recipe, with all that it is built upon.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub name: String,
    /// Repository and tag of the usual image.
    pull: (String, String),
    pub build: Build,
    /// Every file of its directory, by its path below it.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(super) enum Build {
    /// A minimal Debian of this suite with these packages.
    Debian {
        debian: String,
        include: Vec<String>,
    },
    /// A Dockerfile whose `BASE` is another image of ours.
    Dockerfile { from: Box<Recipe> },
}

/// A recipe cannot be read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RecipeError {
    /// A file of it cannot be read.
    #[error("cannot read the image recipe {}: {source}", .path.display())]
    #[diagnostic(code(images::recipe_unreadable))]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `image.toml` says something else than a recipe does.
    #[error("{} is not an image recipe: {why}", .path.display())]
    #[diagnostic(
        code(images::recipe_invalid),
        help("compare it with fixtures/images/postgres/image.toml")
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageToml {
    pull: PullToml,
    build: BuildToml,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PullToml {
    reference: String,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum BuildToml {
    Debian {
        debian: String,
        include: Vec<String>,
    },
    Dockerfile {
        from: String,
    },
}

impl Recipe {
    /// Reads `<recipes>/<name>` and what it is built upon.
    pub fn read(recipes: &Path, name: &str) -> Result<Recipe, RecipeError> {
        Recipe::read_below(recipes, name, &[])
    }

    /// `above` are the recipes that led here, to notice a circle.
    fn read_below(recipes: &Path, name: &str, above: &[&str]) -> Result<Recipe, RecipeError> {
        let dir = recipes.join(name);
        let path = dir.join("image.toml");
        let invalid = |why: String| RecipeError::Invalid {
            path: path.clone(),
            why,
        };
        if above.contains(&name) {
            return Err(invalid(format!("it is built upon itself: {above:?}")));
        }
        let text = fs::read_to_string(&path).map_err(|source| RecipeError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let parsed: ImageToml =
            toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let reference = parsed.pull.reference;
        let pull = pinned(&reference)
            .ok_or_else(|| invalid(format!("`{reference}` names no tag: pin one")))?;
        let build = match parsed.build {
            BuildToml::Debian { debian, include } => Build::Debian { debian, include },
            BuildToml::Dockerfile { from } => {
                let above = [above, &[name]].concat();
                let from = Recipe::read_below(recipes, &from, &above)?;
                Build::Dockerfile {
                    from: Box::new(from),
                }
            }
        };
        let mut files = BTreeMap::new();
        read_files(&dir, Path::new(""), &mut files)?;
        Ok(Recipe {
            name: name.to_owned(),
            pull,
            build,
            files,
        })
    }

    /// Over every file that makes the image, and those of the image below. File
    /// modes are left out: a checkout may change them, and Dockerfiles set theirs.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        if let Build::Dockerfile { from } = &self.build {
            hash.update(from.hash());
        }
        for (path, content) in &self.files {
            // With lengths, so that no two sets of files read the same.
            for part in [path.as_os_str().as_encoded_bytes(), content] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }

    pub fn built_reference(&self, had: Had) -> ImageReference {
        ImageReference {
            repository: format!("trii-rehearsal/{}", self.name),
            tag: self.hash()[..TAG_LENGTH].to_owned(),
            had,
        }
    }

    pub fn pulled_reference(&self, had: Had) -> ImageReference {
        let (repository, tag) = self.pull.clone();
        ImageReference {
            repository,
            tag,
            had,
        }
    }

    /// The directory as a tar archive, the same for the same content.
    pub async fn context(&self) -> std::io::Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, content) in &self.files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            archive
                .append_data(&mut header, path, content.as_slice())
                .await?;
        }
        archive.into_inner().await
    }
}

/// `repository:tag`; a colon before the last slash belongs to a port.
fn pinned(reference: &str) -> Option<(String, String)> {
    let (repository, tag) = reference.rsplit_once(':')?;
    let names_a_tag = !repository.is_empty() && !tag.is_empty() && !tag.contains('/');
    names_a_tag.then(|| (repository.to_owned(), tag.to_owned()))
}

fn read_files(
    dir: &Path,
    below: &Path,
    files: &mut BTreeMap<PathBuf, Vec<u8>>,
) -> Result<(), RecipeError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| RecipeError::Unreadable { path, source }
    };
    for entry in fs::read_dir(dir).map_err(unreadable(dir))? {
        let path = entry.map_err(unreadable(dir))?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        let relative = below.join(name);
        if path.is_dir() {
            read_files(&path, &relative, files)?;
        } else {
            let content = fs::read(&path).map_err(unreadable(&path))?;
            files.insert(relative, content);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const BASE: &str =
        "[pull]\nreference = \"debian:12\"\n[build]\ndebian = \"bookworm\"\ninclude = []\n";
    const UPON_BASE: &str = "[pull]\nreference = \"redis:7\"\n[build]\nfrom = \"base\"\n";

    fn recipes(files: &[(&str, &str)]) -> TempDir {
        let dir = TempDir::new().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn tag(recipes: &TempDir, name: &str) -> String {
        let recipe = Recipe::read(recipes.path(), name).unwrap();
        recipe.built_reference(Had::Present).tag
    }

    #[test]
    fn the_recipes_of_this_project_can_be_read() {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/images");
        for name in ["base", "postgres", "redis"] {
            let recipe = Recipe::read(&ours, name).unwrap();
            assert_eq!(recipe.built_reference(Had::Present).tag.len(), TAG_LENGTH);
        }
    }

    #[test]
    fn a_change_below_changes_the_tag_above() {
        let before = recipes(&[("base/image.toml", BASE), ("redis/image.toml", UPON_BASE)]);
        let after = recipes(&[
            ("base/image.toml", &BASE.replace("[]", "[\"gpg\"]")),
            ("redis/image.toml", UPON_BASE),
        ]);
        assert_ne!(tag(&before, "redis"), tag(&after, "redis"));
    }

    #[test]
    fn a_circle_is_an_error_and_not_an_endless_read() {
        let circle = recipes(&[
            ("base/image.toml", &UPON_BASE.replace("base", "redis")),
            ("redis/image.toml", UPON_BASE),
        ]);
        let error = Recipe::read(circle.path(), "redis").unwrap_err();
        assert!(error.to_string().contains("built upon itself"), "{error}");
    }

    #[test]
    fn a_reference_without_a_tag_is_refused() {
        for reference in ["redis", "host:5000/redis", "redis:"] {
            let dir = recipes(&[("x/image.toml", &BASE.replace("debian:12", reference))]);
            let error = Recipe::read(dir.path(), "x").unwrap_err();
            assert!(error.to_string().contains("names no tag"), "{error}");
        }
        assert_eq!(
            pinned("host:5000/redis:7"),
            Some(("host:5000/redis".to_owned(), "7".to_owned()))
        );
    }

    #[tokio::test]
    async fn the_context_holds_every_file() {
        let dir = recipes(&[
            ("base/image.toml", BASE),
            ("redis/image.toml", UPON_BASE),
            ("redis/Dockerfile", "FROM x"),
            ("redis/etc/redis.conf", "port 1"),
        ]);
        let recipe = Recipe::read(dir.path(), "redis").unwrap();
        let context = recipe.context().await.unwrap();
        assert_eq!(context.len() % 512, 0, "tar comes in blocks");
        let text = String::from_utf8_lossy(&context);
        for part in ["Dockerfile", "FROM x", "etc/redis.conf", "port 1"] {
            assert!(text.contains(part), "{part}");
        }
        assert_eq!(context, recipe.context().await.unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_tag_follows_content_and_names(
            a in "[a-c]{1,3}", b in "[a-c]{1,3}", text in "[a-c]{0,4}", other in "[a-c]{0,4}"
        ) {
            let one = recipes(&[("x/image.toml", BASE), (&format!("x/f{a}"), &text)]);
            let two = recipes(&[("x/image.toml", BASE), (&format!("x/f{b}"), &other)]);
            prop_assert_eq!(tag(&one, "x") == tag(&two, "x"), a == b && text == other);
        }
    }
}
