//! What a context of a kubeconfig leads to, as kube reads it; but which proxy is taken is
//! decided in `proxies`: kube would take one to loopback, too, and fail on an empty entry
//! of NO_PROXY.

use kube::Config;
use kube::config::{AuthInfo, ExecAuthCluster, Kubeconfig};
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::proxies::{self, Proxies};

/// The server, the user and the way to it.
///
/// # Errors
/// Why the context cannot be used, in words.
pub(super) fn config(
    kubeconfig: Kubeconfig,
    context: &str,
    proxies: &Proxies,
) -> Result<Config, String> {
    let named = kubeconfig.contexts.into_iter();
    let meant = named
        .filter(|it| it.name == context)
        .find_map(|it| it.context);
    let meant = meant.ok_or_else(|| format!("the context {context:?} is empty"))?;
    let mut clusters = kubeconfig.clusters.into_iter();
    let cluster = clusters.find(|it| it.name == meant.cluster);
    let cluster = cluster.and_then(|it| it.cluster).unwrap_or_default();
    let server = cluster
        .server
        .as_deref()
        .ok_or_else(|| format!("its cluster {:?} has no server", meant.cluster))?;
    let proxy = proxy(cluster.proxy_url.as_deref(), server, proxies)?;
    // Its authority's certificate is read on the way.
    let known = ExecAuthCluster::try_from(&cluster).map_err(|error| crate::chain(&error))?;
    let authority = known.certificate_authority_data.as_deref();
    let server = server.parse();
    let server = server.map_err(|error| format!("its server is no URL: {error}"))?;
    let mut users = kubeconfig.auth_infos.into_iter();
    let user = users.find(|it| Some(&it.name) == meant.user.as_ref());
    let mut user: AuthInfo = user.and_then(|it| it.auth_info).unwrap_or_default();
    let mut config = Config::new(server);
    config.root_cert = authority.map(certificates).transpose()?;
    if let Some(exec) = user.exec.as_mut().filter(|it| it.provide_cluster_info) {
        exec.cluster = Some(known);
    }
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name = cluster.tls_server_name;
    config.auth_info = user;
    config.proxy_url = proxy;
    Ok(config)
}

/// `proxy-url` goes before all else, for loopback too: behind a tunnel that is somebody
/// else's. So it does in kubectl.
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
            return Err("a SOCKS proxy that wants a password leads to no cluster here".into());
        }
        // kube knows it by this name, and has the proxy resolve names, too.
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
