//! Tokens as the gateway issues them (HS256, RFC 7519), valid and expired.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::{Deserialize, Serialize};

/// The role that may trade.
pub const INVESTOR: &str = "investor";
/// The role that may send ticks.
pub const FEED: &str = "feed";

/// The claims of a token (RFC 7519) that a platform's file names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenClaims {
    /// The claim `sub`. `{unique}` is replaced by a text that is different in each run.
    pub subject: String,
    /// The claim `role`.
    pub role: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    role: &'a str,
    /// Seconds since the Unix epoch.
    iat: i64,
    exp: i64,
}

/// A signer of tokens.
pub struct Tokens {
    key: EncodingKey,
}

const HOUR_SECONDS: i64 = 3600;

impl Tokens {
    /// Creates a signer with this secret.
    pub fn new(secret: &str) -> Self {
        Tokens {
            key: EncodingKey::from_secret(secret.as_bytes()),
        }
    }

    /// Returns a token that is valid for an hour.
    pub fn token(&self, subject: &str, role: &str) -> String {
        self.valid_for(subject, role, HOUR_SECONDS)
    }

    /// Returns a token that expired an hour ago.
    pub fn expired(&self, subject: &str, role: &str) -> String {
        self.valid_for(subject, role, -HOUR_SECONDS)
    }

    fn valid_for(&self, subject: &str, role: &str, seconds: i64) -> String {
        let now = jiff::Timestamp::now().as_second();
        let claims = Claims {
            sub: subject,
            role,
            iat: now.min(now + seconds - HOUR_SECONDS),
            exp: now + seconds,
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.key)
            .expect("strings and numbers can always be signed with a symmetric key")
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    fn accepts(secret: &str, token: &str) -> bool {
        let key = DecodingKey::from_secret(secret.as_bytes());
        decode::<serde_json::Value>(token, &key, &Validation::new(Algorithm::HS256)).is_ok()
    }

    #[test]
    fn only_an_unexpired_token_of_the_same_key_is_valid() {
        let tokens = Tokens::new("key");
        assert!(accepts("key", &tokens.token("ana", INVESTOR)));
        assert!(!accepts("other", &tokens.token("ana", INVESTOR)));
        assert!(!accepts("key", &tokens.expired("ana", INVESTOR)));
    }
}
