//! What the OCI image specification says of a content.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The type of an image's, or a chart's, manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub fn digest(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

pub fn descriptor(kind: &str, content: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(content), "size": content.len()})
}
