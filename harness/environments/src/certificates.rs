//! A certificate authority for one run, and the ingress' certificate.

use std::fmt;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
};
use time::OffsetDateTime;

/// Valid from before the creation: the clock of an engine's virtual machine may lag.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);
/// An environment is used for days.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The certificates of an authority and a server, as PEM.
///
/// The authority's key is not kept: it signs only this certificate.
#[derive(Clone)]
pub struct Certificates {
    /// The authority's certificate, for clients.
    pub authority_pem: String,
    /// The server's certificate: `tls.crt` of a Secret.
    pub certificate_pem: String,
    /// The server's key in PKCS #8: `tls.key` of a Secret.
    pub key_pem: String,
}

/// Why no certificate can be created.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CertificateError {
    /// There are no host names.
    #[error("a certificate needs at least one host name")]
    #[diagnostic(code(certificates::no_host))]
    NoHost,
    /// The text is not a host name of RFC 1123.
    #[error("`{host}` is not the name of a host")]
    #[diagnostic(
        code(certificates::host),
        help("letters, digits and hyphens in labels with dots between, such as `trii.co`")
    )]
    Host {
        /// The text.
        host: String,
    },
    /// The library failed.
    #[error("cannot make a certificate for {hosts}: {source}")]
    #[diagnostic(code(certificates::generate))]
    Generate {
        /// The host names.
        hosts: String,
        /// The cause.
        source: rcgen::Error,
    },
}

impl Certificates {
    /// Creates an authority and one certificate for all these host names, with ECDSA keys on P-256,
    /// valid for 30 days.
    pub fn generate(hosts: &[&str]) -> Result<Certificates, CertificateError> {
        if hosts.is_empty() {
            return Err(CertificateError::NoHost);
        }
        if let Some(host) = hosts.iter().find(|host| !is_host_name(host)) {
            let host = (*host).to_owned();
            return Err(CertificateError::Host { host });
        }
        signed(hosts).map_err(|source| CertificateError::Generate {
            hosts: hosts.join(", "),
            source,
        })
    }
}

fn signed(hosts: &[&str]) -> Result<Certificates, rcgen::Error> {
    let authority = CertifiedIssuer::self_signed(authority(hosts), KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = server(hosts)?.signed_by(&key, &authority)?;
    Ok(Certificates {
        authority_pem: authority.pem(),
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

/// May sign only certificates of servers with these hosts, so that a browser can import it safely.
fn authority(hosts: &[&str]) -> CertificateParams {
    let mut parameters = valid(CertificateParams::default());
    parameters.distinguished_name = named("TRII rehearsal authority");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let permitted = hosts.iter().map(|host| (*host).to_owned());
    parameters.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted.map(GeneralSubtree::DnsName).collect(),
        excluded_subtrees: Vec::new(),
    });
    parameters
}

fn server(hosts: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut parameters = valid(CertificateParams::new(names)?);
    parameters.distinguished_name = named("TRII rehearsal ingress");
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(parameters)
}

fn valid(mut parameters: CertificateParams) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    parameters.not_before = now - CLOCK_SKEW;
    parameters.not_after = now + VALIDITY;
    parameters
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// RFC 1123, section 2.1. The last label of an address is a number.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    host.len() <= 253
        && host.split('.').all(label)
        && !host.rsplit('.').next().is_some_and(is_number)
}

impl fmt::Debug for Certificates {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("authority_pem", &self.authority_pem)
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use rustls::{
        ClientConfig, ClientConnection, Error, RootCertStore, ServerConfig, ServerConnection,
    };

    use super::*;

    const HOSTS: [&str; 2] = ["trii.co", "api.trii.co"];

    /// A clock with this offset, in seconds.
    #[derive(Debug)]
    struct Clock(i64);

    impl rustls::time_provider::TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            let now = UnixTime::now().as_secs().checked_add_signed(self.0)?;
            Some(UnixTime::since_unix_epoch(Duration::from_secs(now)))
        }
    }

    fn server_config(certificates: &Certificates) -> ServerConfig {
        let certificate = certificates.certificate_pem.as_bytes();
        let certificate = CertificateDer::from_pem_slice(certificate).unwrap();
        let key = PrivateKeyDer::from_pem_slice(certificates.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap()
    }

    fn client_config(authority_pem: &str, clock: Clock) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(authority_pem.as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_details(provider, Arc::new(clock))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// Connects in memory and sends a message. Returns the client's refusal.
    fn handshake(
        server: &Certificates,
        trusted: &Certificates,
        host: &'static str,
        clock: Clock,
    ) -> Result<(), Error> {
        let name = ServerName::try_from(host).unwrap();
        let client = client_config(&trusted.authority_pem, clock);
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(Arc::new(server_config(server)))?;
        client.writer().write_all(b"text").unwrap();
        let mut received = Vec::new();
        while received.len() < 4 {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            server.read_tls(&mut sent.as_slice()).unwrap();
            server.process_new_packets()?;
            let _ = server.reader().read_to_end(&mut received);
            let mut answered = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut answered).unwrap();
            }
            client.read_tls(&mut answered.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert_eq!(received, b"text");
        Ok(())
    }

    #[test]
    fn a_client_that_trusts_the_authority_trusts_every_host() {
        let certificates = Certificates::generate(&HOSTS).unwrap();
        for host in HOSTS {
            handshake(&certificates, &certificates, host, Clock(0)).unwrap();
        }
    }

    #[test]
    fn other_hosts_and_other_authorities_are_refused() {
        let certificates = Certificates::generate(&["trii.co"]).unwrap();
        let other_name = handshake(&certificates, &certificates, "api.trii.co", Clock(0));
        assert!(matches!(other_name, Err(Error::InvalidCertificate(_))));
        let other_run = Certificates::generate(&["trii.co"]).unwrap();
        let other_run = handshake(&certificates, &other_run, "trii.co", Clock(0));
        assert!(matches!(other_run, Err(Error::InvalidCertificate(_))));
    }

    #[test]
    fn it_is_valid_for_thirty_days_and_for_a_clock_that_lags() {
        let certificates = Certificates::generate(&HOSTS).unwrap();
        let at = |seconds| handshake(&certificates, &certificates, "trii.co", Clock(seconds));
        let day = 24 * 60 * 60;
        at(-50 * 60).unwrap();
        at(29 * day).unwrap();
        assert!(at(-2 * 60 * 60).is_err());
        assert!(at(31 * day).is_err());
    }

    /// The constraint is in the authority's certificate.
    #[test]
    fn the_authority_can_sign_only_its_hosts() {
        let issuer = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(authority(&["trii.co"]), issuer).unwrap();
        let key = KeyPair::generate().unwrap();
        let forged = server(&["bank.example"]).unwrap();
        let forged = Certificates {
            authority_pem: issuer.pem(),
            certificate_pem: forged.signed_by(&key, &issuer).unwrap().pem(),
            key_pem: key.serialize_pem(),
        };
        let refused = handshake(&forged, &forged, "bank.example", Clock(0)).unwrap_err();
        assert!(
            format!("{refused:?}").contains("NameConstraint"),
            "{refused:?}"
        );
    }

    #[test]
    fn a_text_that_is_not_a_host_name_is_refused() {
        assert!(matches!(
            Certificates::generate(&[]),
            Err(CertificateError::NoHost)
        ));
        for host in [
            "",
            "trii..co",
            "-trii.co",
            "*.trii.co",
            "127.0.0.1",
            "a b",
            "::1",
        ] {
            let error = Certificates::generate(&["trii.co", host]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{host}` is not the name of a host")
            );
        }
    }

    #[test]
    fn debug_output_contains_no_key() {
        let certificates = Certificates::generate(&HOSTS).unwrap();
        let shown = format!("{certificates:?}");
        assert!(shown.contains("BEGIN CERTIFICATE"));
        assert!(!shown.contains("PRIVATE KEY"));
    }
}
