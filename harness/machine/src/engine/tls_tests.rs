//! An engine behind TLS that requires a client's certificate.

use std::path::Path;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Starts an engine and returns its address. Writes a client's files to `folder`, named as docker
/// names them.
async fn start(folder: &Path) -> String {
    base::tls::use_ring();
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = CertifiedIssuer::self_signed(parameters, key).unwrap();
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (parameters.signed_by(&key, &authority).unwrap(), key)
    };
    let (client, client_key) = signed("client");
    for (name, pem) in [
        ("ca.pem", authority.pem()),
        ("cert.pem", client.pem()),
        ("key.pem", client_key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), pem).unwrap();
    }
    let mut known = RootCertStore::empty();
    known.add(authority.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(known.into()).build().unwrap();
    let (server, server_key) = signed("127.0.0.1");
    let server_key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], server_key)
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                // A client without a certificate.
                let Ok(stream) = tls.accept(stream).await else {
                    return;
                };
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                let _ = served.await;
            });
        }
    });
    format!("tcp://{address}")
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, std::convert::Infallible> {
    let body = match request.uri().path().ends_with("/version") {
        true => r#"{"Version":"27.1.0","ApiVersion":"1.41","MinAPIVersion":"1.24"}"#,
        false => "OK",
    };
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(body.to_owned()).unwrap())
}

fn candidate(host: &str, folder: Option<&Path>) -> Candidate {
    let tls = folder.map(|folder| Tls {
        folder: folder.to_owned(),
        verify: true,
    });
    Candidate {
        tls,
        ..Candidate::plain(host, Origin::ChosenContext("far".into()))
    }
}

#[tokio::test]
async fn an_engine_behind_tls_is_reached_by_the_contexts_certificates() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let host = start(folder.path()).await;
    let with = |folder| Engine::among(vec![candidate(&host, folder)], TIMEOUT);
    let engine = with(Some(folder.path())).await.unwrap();
    assert_eq!(engine.server_version, "27.1.0");
    let child = engine.export_env();
    let path = folder.path().display().to_string();
    for variable in [
        ("DOCKER_HOST", host.clone()),
        ("DOCKER_TLS_VERIFY", "1".to_owned()),
        ("DOCKER_CERT_PATH", path),
    ] {
        assert!(
            child.contains(&variable),
            "{variable:?} is not in {child:?}"
        );
    }
    with(None).await.unwrap_err();
    // With another authority: neither trusts the other.
    start(other.path()).await;
    with(Some(other.path())).await.unwrap_err();
}
