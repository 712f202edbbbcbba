//! The reference of an image to pull.

use std::fmt;

use super::{ImageReference, Obtained};

/// `repository:tag`, or `repository:tag@sha256:...`. A digest pins the image, even if its registry
/// moves the tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PullReference {
    pub repository: String,
    pub tag: String,
    /// `sha256:` and 64 digits.
    pub digest: Option<String>,
}

impl PullReference {
    /// # Errors
    /// A message that says what is wrong.
    pub fn parse(text: &str) -> Result<PullReference, String> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(format!(
                "`{text}` names no digest after its @: that is `sha256:` and 64 hexadecimal digits"
            ));
        }
        // A colon before the last slash belongs to a port.
        let parts = name.rsplit_once(':').filter(|(repository, tag)| {
            !repository.is_empty() && !tag.is_empty() && !tag.contains('/')
        });
        let (repository, tag) =
            parts.ok_or_else(|| format!("`{text}` names no tag: pin one, `name:tag`"))?;
        Ok(PullReference {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest: digest.map(str::to_owned),
        })
    }

    /// Returns the registry, if the reference has one. The first part of a repository is a registry
    /// if it looks like a host. Without one, the engine uses its default.
    pub fn registry(&self) -> Option<&str> {
        match self.repository.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => Some(host),
            _ => None,
        }
    }

    /// Returns the image as the engine names it.
    pub fn image(&self, had: Obtained) -> ImageReference {
        ImageReference {
            repository: self.repository.clone(),
            tag: self.tag.clone(),
            had,
        }
    }
}

fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl fmt::Display for PullReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)?;
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_a_tag_is_refused() {
        for text in [
            "redis",
            "host:5000/redis",
            "redis:",
            ":7",
            "",
            "redis@sha256:12",
        ] {
            assert!(PullReference::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_comes_after_the_tag() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let text = format!("host:5000/redis:7@{digest}");
        let reference = PullReference::parse(&text).unwrap();
        assert_eq!(reference.to_string(), text);
        let image = reference.image(Obtained::Pulled).to_string();
        assert_eq!(image, "host:5000/redis:7");
        assert_eq!(reference.digest, Some(digest));
        let short = PullReference::parse("redis:7@sha256:0a").unwrap_err();
        assert!(short.contains("64 hexadecimal digits"), "{short}");
    }

    #[test]
    fn the_registry_is_the_one_that_docker_login_names() {
        for (text, registry) in [
            ("redis:7", None),
            ("library/redis:7", None),
            ("localhost/redis:7", Some("localhost")),
            ("127.0.0.1:5000/a/b:1", Some("127.0.0.1:5000")),
            ("registry.example/a/b:1", Some("registry.example")),
        ] {
            assert_eq!(PullReference::parse(text).unwrap().registry(), registry);
        }
    }
}
