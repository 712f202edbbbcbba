//! The process's TLS provider.

/// Makes ring the TLS provider of rustls. Call it before the first HTTP client is created: the
/// dependencies have two providers, and rustls does not choose one.
pub fn use_ring() {
    // This fails if ring is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
