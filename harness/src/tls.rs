//! The process's TLS provider.

/// Has rustls use ring. Call it before the first HTTP client is made: two providers are
/// among the dependencies, and rustls chooses none of them by itself.
pub fn use_ring() {
    // Whoever was first has chosen the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
