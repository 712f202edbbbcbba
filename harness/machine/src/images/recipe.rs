//! `fixtures/images/<name>`: the files of an image, and the hash of all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::reference::PullReference;
use super::schema::{BuildToml, CargoProgram, FromToml, GoPrograms, ImageToml, ModuleFiles};
use super::{ImageReference, Obtained};

/// Long enough to be unique, short enough to read.
const TAG_LENGTH: usize = 12;

/// The workspace, relative to the recipes.
const WORKSPACE: &str = "../..";

/// Files by their path below a directory.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A recipe, with all recipes that it is built upon.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub name: String,
    /// The usual image; none if no registry has it.
    pub pull: Option<PullReference>,
    pub build: Build,
    /// Every file of its directory.
    pub files: Files,
}

#[derive(Clone, Debug)]
pub(super) enum Build {
    /// A minimal Debian of this suite with these packages.
    Debian {
        debian: String,
        include: Vec<String>,
    },
    /// The recipe's Dockerfile.
    Dockerfile(Dockerfile),
}

/// What a Dockerfile's context has besides the recipe's files.
#[derive(Clone, Debug, Default)]
pub(super) struct Dockerfile {
    /// Other recipes, by the build argument that names each.
    pub from: BTreeMap<String, Recipe>,
    pub go: Vec<GoPrograms>,
    pub cargo: Option<CargoProgram>,
    /// The directory of `cargo`'s workspace.
    pub workspace: PathBuf,
    /// Of `cargo`'s sources, if there is a program.
    sources_hash: Option<String>,
    pub module_files: Vec<ModuleFiles>,
    /// Put into the built image's own containerd.
    pub preload: Vec<Recipe>,
}

/// A recipe cannot be read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RecipeError {
    /// There is no recipe of this name.
    #[error("there is no image `{name}`")]
    #[diagnostic(code(images::no_such_recipe), help("{help}"))]
    NoSuch {
        /// The requested name.
        name: String,
        /// The names that exist.
        help: String,
    },
    /// No node runs that version.
    #[error("no image of fixtures/images is a node of Kubernetes {kubernetes}; there is {there}")]
    #[diagnostic(
        code(images::no_such_node),
        help("set `kubernetes` of the target in harness.toml to one that is there")
    )]
    NoNode {
        /// The minor version.
        kubernetes: String,
        /// The available versions.
        there: String,
    },
    /// A file of it cannot be read.
    #[error("cannot read the image recipe {}: {source}", .path.display())]
    #[diagnostic(code(images::recipe_unreadable))]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// `image.toml` is not valid.
    #[error("{} is not an image recipe: {why}", .path.display())]
    #[diagnostic(
        code(images::recipe_invalid),
        help("docs/images.md explains every key; compare it with fixtures/images/postgres")
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Returns the names of all recipes in a directory, sorted.
pub(super) fn names(recipes: &Path) -> Result<Vec<String>, RecipeError> {
    let unreadable = |source| RecipeError::Unreadable {
        path: recipes.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(recipes).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().join("image.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl Recipe {
    /// Reads all recipes of these names.
    pub fn read_all(recipes: &Path, names: &[String]) -> Result<Vec<Recipe>, RecipeError> {
        names
            .iter()
            .map(|name| Recipe::read(recipes, name))
            .collect()
    }

    /// Reads `<recipes>/<name>` and what it is built upon.
    pub fn read(recipes: &Path, name: &str) -> Result<Recipe, RecipeError> {
        let known = names(recipes)?;
        if !known.iter().any(|known| known == name) {
            return Err(RecipeError::NoSuch {
                name: name.to_owned(),
                help: format!("these are there: {}", known.join(", ")),
            });
        }
        Recipe::read_below(recipes, name, &[])
    }

    /// `above` are the recipes that this one is a part of, to detect a circle.
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
        let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
        let parsed: ImageToml =
            toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let pull = parsed
            .pull
            .map(|pull| PullReference::parse(&pull.reference));
        let pull = pull.transpose().map_err(invalid)?;
        let above = [above, &[name]].concat();
        let below = |name: &String| Recipe::read_below(recipes, name, &above);
        let mut files = Files::new();
        read_files(&dir, Path::new(""), &mut files)?;
        let has_dockerfile = files.contains_key(Path::new("Dockerfile"));
        let build = match parsed.build {
            BuildToml {
                debian: Some(debian),
                include,
                ..
            } => Build::Debian { debian, include },
            _ if !has_dockerfile => {
                return Err(invalid("it has neither `debian` nor a Dockerfile".into()));
            }
            toml => Build::Dockerfile(dockerfile(toml, recipes, below)?),
        };
        Ok(Recipe {
            name: name.to_owned(),
            pull,
            build,
            files,
        })
    }

    /// Returns the recipes that must be built first.
    pub fn below(&self) -> impl Iterator<Item = &Recipe> {
        let dockerfile = match &self.build {
            Build::Debian { .. } => None,
            Build::Dockerfile(dockerfile) => Some(dockerfile),
        };
        dockerfile
            .into_iter()
            .flat_map(|dockerfile| dockerfile.from.values().chain(&dockerfile.preload))
    }

    /// Returns the hash over every file of the image and of the images below. File modes are left
    /// out: a checkout may change them, and Dockerfiles set them.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for recipe in self.below() {
            hash.update(recipe.hash());
        }
        if let Build::Dockerfile(dockerfile) = &self.build {
            hash.update(dockerfile.sources_hash.as_deref().unwrap_or_default());
        }
        hash_files(&mut hash, &self.files);
        hex(hash)
    }

    /// Returns the reference of the built image. The image may not exist yet.
    pub fn built_reference(&self, had: Obtained) -> ImageReference {
        ImageReference {
            repository: format!("trii-rehearsal/{}", self.name),
            tag: self.hash()[..TAG_LENGTH].to_owned(),
            had,
        }
    }
}

fn dockerfile(
    toml: BuildToml,
    recipes: &Path,
    below: impl Fn(&String) -> Result<Recipe, RecipeError>,
) -> Result<Dockerfile, RecipeError> {
    let from = match toml.from {
        None => BTreeMap::new(),
        Some(FromToml::One(name)) => BTreeMap::from([("BASE".to_owned(), name)]),
        Some(FromToml::Several(names)) => names,
    };
    let workspace = recipes.join(WORKSPACE);
    let sources = toml.cargo.as_ref().map(|program| &program.sources);
    let hash = sources.map(|sources| sources_hash(&workspace, sources));
    Ok(Dockerfile {
        from: from
            .into_iter()
            .map(|(key, name)| Ok((key, below(&name)?)))
            .collect::<Result<_, _>>()?,
        go: toml.go,
        cargo: toml.cargo,
        workspace,
        sources_hash: hash.transpose()?,
        module_files: toml.module_files,
        preload: toml.preload.iter().map(below).collect::<Result<_, _>>()?,
    })
}

fn sources_hash(workspace: &Path, sources: &[PathBuf]) -> Result<String, RecipeError> {
    let mut files = Files::new();
    for source in sources {
        let path = workspace.join(source);
        if path.is_dir() {
            read_files(&path, source, &mut files)?;
        } else {
            let content = fs::read(&path).map_err(unreadable(&path))?;
            files.insert(source.clone(), content);
        }
    }
    let mut hash = Sha256::new();
    hash_files(&mut hash, &files);
    Ok(hex(hash))
}

/// Includes lengths: otherwise two sets of files may have the same bytes.
fn hash_files(hash: &mut Sha256, files: &Files) {
    for (path, content) in files {
        for part in [path.as_os_str().as_encoded_bytes(), content] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> RecipeError + use<> {
    let path = path.to_owned();
    move |source| RecipeError::Unreadable { path, source }
}

/// Reads every file of `dir`. Its key is `below` with the path in `dir`.
fn read_files(dir: &Path, below: &Path, files: &mut Files) -> Result<(), RecipeError> {
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
        recipe.built_reference(Obtained::Present).tag
    }

    #[test]
    fn a_node_is_found_by_its_version() {
        let recipes = recipes(&[
            ("base/image.toml", BASE),
            ("node/image.toml", BASE),
            ("node/version", "v1.37.2\n"),
        ]);
        let workshop = crate::images::Workshop {
            recipes: recipes.path().to_owned(),
            state_dir: PathBuf::new(),
            docker_config: None,
        };
        let node = |version| crate::images::node(&workshop, version);
        assert_eq!(node("1.37").unwrap(), "node");
        let unknown = node("1.3").unwrap_err().to_string();
        assert!(unknown.ends_with("there is 1.37.2"), "{unknown}");
    }

    #[test]
    fn the_recipes_of_this_project_can_be_read() {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/images");
        for recipe in Recipe::read_all(&ours, &names(&ours).unwrap()).unwrap() {
            let tag = recipe.built_reference(Obtained::Present).tag;
            assert_eq!(tag.len(), TAG_LENGTH);
        }
    }

    #[test]
    fn a_change_below_changes_the_tag_above() {
        let tag_with = |base: &str| {
            let recipes = recipes(&[
                ("base/image.toml", base),
                ("redis/image.toml", UPON_BASE),
                ("redis/Dockerfile", ""),
            ]);
            tag(&recipes, "redis")
        };
        assert_ne!(tag_with(BASE), tag_with(&BASE.replace("[]", "[\"gpg\"]")));
    }

    #[test]
    fn a_circle_is_an_error() {
        let circle = recipes(&[
            ("base/image.toml", &UPON_BASE.replace("base", "redis")),
            ("base/Dockerfile", ""),
            ("redis/image.toml", UPON_BASE),
            ("redis/Dockerfile", ""),
        ]);
        let error = Recipe::read(circle.path(), "redis").unwrap_err();
        assert!(error.to_string().contains("built upon itself"), "{error}");
    }

    #[test]
    fn an_invalid_recipe_is_refused_with_the_reason() {
        let without_tag = BASE.replace("debian:12", "redis");
        for (text, reason) in [
            (without_tag.as_str(), "names no tag"),
            ("[build]\n", "nor a Dockerfile"),
        ] {
            let dir = recipes(&[("x/image.toml", text)]);
            let error = Recipe::read(dir.path(), "x").unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn the_error_for_an_unknown_image_lists_the_known_ones() {
        let dir = recipes(&[("base/image.toml", BASE)]);
        let error = Recipe::read(dir.path(), "bsae").unwrap_err();
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        assert_eq!(help, "these are there: base");
    }

    #[test]
    fn the_tag_depends_on_the_sources_of_a_program() {
        let read = |source: &str| {
            let dir = TempDir::new().unwrap();
            let images = dir.path().join("fixtures/images");
            fs::create_dir_all(images.join("x")).unwrap();
            fs::create_dir(dir.path().join("src")).unwrap();
            fs::write(dir.path().join("src/main.rs"), source).unwrap();
            fs::write(images.join("x/Dockerfile"), "").unwrap();
            let toml = "[build.cargo]\npackage = \"x\"\nsources = [\"src\"]\n";
            fs::write(images.join("x/image.toml"), toml).unwrap();
            Recipe::read(&images, "x").unwrap().hash()
        };
        assert_eq!(read("fn main() {}"), read("fn main() {}"));
        assert_ne!(read("fn main() {}"), read("fn main() { }"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_tag_depends_on_content_and_names(
            a in "[a-c]{1,3}", b in "[a-c]{1,3}", text in "[a-c]{0,4}", other in "[a-c]{0,4}"
        ) {
            let one = recipes(&[("x/image.toml", BASE), (&format!("x/f{a}"), &text)]);
            let two = recipes(&[("x/image.toml", BASE), (&format!("x/f{b}"), &other)]);
            prop_assert_eq!(tag(&one, "x") == tag(&two, "x"), a == b && text == other);
        }
    }
}
