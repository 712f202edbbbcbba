//! The server and the user of a kubeconfig's context. Only the proxy is chosen differently than in
//! kube, which uses one for loopback too, and fails on an empty entry of NO_PROXY.

use kube::Config;
use kube::config::{AuthInfo, ExecAuthCluster, Kubeconfig};
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use base::proxies::{self, Proxies};

/// Returns the server, the user and the proxy of the context, or why it cannot be used.
pub(super) fn config(
    kubeconfig: Kubeconfig,
    context: &str,
    proxies: &Proxies,
) -> Result<Config, String> {
    let mut named = kubeconfig.contexts.into_iter();
    let selected = named.find(|it| it.name == context && it.context.is_some());
    let selected = selected.and_then(|it| it.context);
    let selected = selected.ok_or_else(|| format!("the context {context:?} is empty"))?;
    let mut clusters = kubeconfig.clusters.into_iter();
    let cluster = clusters.find(|it| it.name == selected.cluster);
    let cluster = cluster.and_then(|it| it.cluster).unwrap_or_default();
    let server = cluster
        .server
        .as_deref()
        .ok_or_else(|| format!("its cluster {:?} has no server", selected.cluster))?;
    let proxy = proxy(cluster.proxy_url.as_deref(), server, proxies)?;
    // This also reads the authority's certificate.
    let exec_cluster = ExecAuthCluster::try_from(&cluster).map_err(|error| base::chain(&error))?;
    let authority = exec_cluster.certificate_authority_data.as_deref();
    let server = server.parse();
    let server = server.map_err(|error| format!("its server is no URL: {error}"))?;
    let mut users = kubeconfig.auth_infos.into_iter();
    let user = users.find(|it| Some(&it.name) == selected.user.as_ref());
    let mut user: AuthInfo = user.and_then(|it| it.auth_info).unwrap_or_default();
    let mut config = Config::new(server);
    config.root_cert = authority.map(certificates).transpose()?;
    if let Some(exec) = user.exec.as_mut().filter(|it| it.provide_cluster_info) {
        exec.cluster = Some(exec_cluster);
    }
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name = cluster.tls_server_name;
    config.auth_info = user;
    config.proxy_url = proxy;
    Ok(config)
}

/// As in kubectl, `proxy-url` takes precedence, for loopback too: behind a tunnel, loopback is
/// another machine.
fn proxy(
    proxy_url: Option<&str>,
    server: &str,
    proxies: &Proxies,
) -> Result<Option<hyper::Uri>, String> {
    let proxy = match proxy_url.filter(|it| !it.is_empty()) {
        Some(url) => proxies::usable("proxy-url", url).map(Some),
        None => {
            let server: Url = server
                .parse()
                .map_err(|error| format!("its server is no URL: {error}"))?;
            proxies.to(&server)
        }
    };
    let Some(mut proxy) = proxy.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    if proxy.scheme().starts_with("socks5") {
        if !proxy.username().is_empty() {
            return Err("a SOCKS proxy with a password is not supported".into());
        }
        // kube's name for it. kube too has the proxy resolve host names.
        let _ = proxy.set_scheme("socks5");
    }
    let uri = proxy.as_str().parse();
    uri.map(Some)
        .map_err(|error| format!("its proxy is no URL: {error}"))
}

fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .map(|it| it.map(|it| it.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("its authority is no certificate: {error}"))
}
