//! Selects the proxy for a server, if any, for every client and every child process.
//!
//! The environment variables are read as in Go's `golang.org/x/net/http/httpproxy`, which kubectl
//! and helm use, and also curl's ALL_PROXY.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use miette::Diagnostic;
use reqwest::Url;
use thiserror::Error;

/// The port of a SOCKS proxy that names none (RFC 1928).
const SOCKS_PORT: u16 = 1080;

/// Go excludes these by itself. They are passed to children, as other programs do not.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.0/8", "::1"];

/// The proxies that environment variables name; by default none.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Named>,
    https: Option<Named>,
    all: Option<Named>,
    exceptions: Vec<Exception>,
    /// The exceptions as written.
    no_proxy: Vec<String>,
}

/// A proxy, and the variable that names it.
#[derive(Clone)]
struct Named {
    variable: &'static str,
    url: String,
}

impl fmt::Debug for Named {
    /// Omits the URL, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.variable)
    }
}

/// A proxy that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{named_by} names a proxy that cannot be used: {reason}")]
#[diagnostic(help(
    "use http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT; list a server that needs no proxy in NO_PROXY"
))]
pub struct BadProxy {
    /// The variable, or the key of a kubeconfig.
    pub named_by: String,
    /// The reason.
    pub reason: String,
}

impl Proxies {
    /// The proxies of this process's environment.
    pub fn of_this_process() -> Proxies {
        Proxies::of(|name| {
            let value = std::env::var_os(name)?;
            Some(value.to_string_lossy().into_owned())
        })
    }

    /// The proxies that these variables name. Upper case has precedence, as in Go.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Proxies {
        let first = |names: [&'static str; 2]| {
            let values = names.into_iter().map(|name| (name, variable(name)));
            values
                .filter_map(|(name, value)| Some((name, value?.trim().to_owned())))
                .find(|(_, value)| !value.is_empty())
        };
        let named = |names| {
            let (variable, url) = first(names)?;
            Some(Named { variable, url })
        };
        let no_proxy = first(["NO_PROXY", "no_proxy"]).map_or(String::new(), |(_, list)| list);
        let no_proxy: Vec<String> = no_proxy
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|entry| !entry.is_empty())
            .map(str::to_owned)
            .collect();
        Proxies {
            http: named(["HTTP_PROXY", "http_proxy"]),
            https: named(["HTTPS_PROXY", "https_proxy"]),
            all: named(["ALL_PROXY", "all_proxy"]),
            exceptions: no_proxy
                .iter()
                .filter_map(|entry| Exception::of(entry))
                .collect(),
            no_proxy,
        }
    }

    /// Returns the proxy for `server`; none if it is reached directly. Loopback always is.
    ///
    /// # Errors
    /// [`BadProxy`].
    pub fn to(&self, server: &Url) -> Result<Option<Url>, BadProxy> {
        match self.named_for(server.scheme()) {
            Some(named) if !self.is_excepted(server) => {
                usable(named.variable, &named.url).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Makes a client use these proxies, and none from its environment.
    pub fn configure(self, client: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        // The caller reports errors of `to` before it creates the client.
        let proxy = reqwest::Proxy::custom(move |url| self.to(url).ok().flatten());
        client.no_proxy().proxy(proxy)
    }

    /// Returns the variables for a child process, which may support neither ALL_PROXY nor loopback
    /// addresses. It reaches the hosts in `direct` directly. Empty if no proxy is named.
    pub fn for_child(&self, direct: &[&str]) -> Vec<(&'static str, String)> {
        let by_scheme = [("HTTP_PROXY", "http"), ("HTTPS_PROXY", "https")];
        let mut variables: Vec<_> = by_scheme
            .into_iter()
            .filter_map(|(name, scheme)| Some((name, self.named_for(scheme)?.url.clone())))
            .collect();
        if !variables.is_empty() {
            let mut no_proxy: Vec<&str> = self.no_proxy.iter().map(String::as_str).collect();
            no_proxy.extend(LOOPBACK);
            no_proxy.extend(direct);
            variables.push(("NO_PROXY", no_proxy.join(",")));
        }
        variables
    }

    fn named_for(&self, scheme: &str) -> Option<&Named> {
        let own = match scheme {
            "https" => &self.https,
            _ => &self.http,
        };
        own.as_ref().or(self.all.as_ref())
    }

    fn is_excepted(&self, server: &Url) -> bool {
        let Some(host) = server.host_str() else {
            return false;
        };
        let host = bare(host);
        if is_loopback(&host) {
            return true;
        }
        let port = server.port_or_known_default();
        self.exceptions
            .iter()
            .any(|exception| exception.matches(&host, port))
    }
}

/// Parses a proxy from a kubeconfig's `proxy-url` or a variable. The default scheme is `http`.
///
/// # Errors
/// [`BadProxy`]. It omits the URL, which may contain a password.
pub fn usable(named_by: &str, text: &str) -> Result<Url, BadProxy> {
    let bad = |reason: String| BadProxy {
        named_by: named_by.to_owned(),
        reason,
    };
    let url = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let mut url: Url = url.parse().map_err(|error| bad(format!("{error}")))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("it has no host".to_owned()));
    }
    match url.scheme() {
        "http" | "https" => Ok(url),
        "socks5" | "socks5h" => {
            if url.port().is_none() {
                // This cannot fail: the URL has a host.
                let _ = url.set_port(Some(SOCKS_PORT));
            }
            Ok(url)
        }
        other => Err(bad(format!("{other}:// is not supported"))),
    }
}

/// Normalises a host for comparison: lower case, no brackets, no final dot.
fn bare(host: &str) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// By RFC 6761, every name under `localhost` is loopback.
fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// One entry of NO_PROXY.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    Network(IpNet),
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    Domain {
        /// With a leading dot.
        suffix: String,
        /// Whether it applies to the domain too, or only to its subdomains.
        itself: bool,
        port: Option<u16>,
    },
}

impl Exception {
    /// None for an invalid entry, which Go ignores too.
    fn of(entry: &str) -> Option<Exception> {
        if entry == "*" {
            return Some(Exception::Everything);
        }
        if let Ok(network) = entry.parse() {
            return Some(Exception::Network(network));
        }
        let (host, port) = host_and_port(entry);
        let host = bare(host);
        if let Ok(address) = host.parse() {
            return Some(Exception::Address { address, port });
        }
        let host = host.strip_prefix('*').unwrap_or(&host);
        let name = host.strip_prefix('.').unwrap_or(host);
        (!name.is_empty()).then(|| Exception::Domain {
            suffix: format!(".{name}"),
            itself: name == host,
            port,
        })
    }

    fn matches(&self, host: &str, server_port: Option<u16>) -> bool {
        let on = |port: &Option<u16>| port.is_none() || *port == server_port;
        let server = || host.parse::<IpAddr>();
        match self {
            Exception::Everything => true,
            Exception::Network(network) => server().is_ok_and(|server| network.contains(&server)),
            Exception::Address { address, port } => server() == Ok(*address) && on(port),
            Exception::Domain {
                suffix,
                itself,
                port,
            } => (host.ends_with(suffix) || *itself && host == &suffix[1..]) && on(port),
        }
    }
}

/// An IPv6 address without brackets has no port.
fn host_and_port(entry: &str) -> (&str, Option<u16>) {
    let split = entry.rsplit_once(':');
    split
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'))
        .and_then(|(host, port)| Some((host, Some(port.parse().ok()?))))
        .unwrap_or((entry, None))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(variables: &[(&str, &str)]) -> Proxies {
        Proxies::of(|name| {
            let mut variables = variables.iter();
            let (_, value) = variables.find(|(variable, _)| *variable == name)?;
            Some((*value).to_owned())
        })
    }

    fn proxy(proxies: &Proxies, server: &str) -> Option<String> {
        let url = proxies.to(&server.parse().unwrap()).unwrap();
        url.map(|url| url.to_string())
    }

    /// Whether `server` is reached directly with this NO_PROXY.
    fn is_direct(no_proxy: &str, server: &str) -> bool {
        let proxies = of(&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", no_proxy)]);
        proxy(&proxies, server).is_none()
    }

    #[test]
    fn each_scheme_has_its_proxy_and_all_proxy_is_the_default() {
        let proxies = of(&[("HTTPS_PROXY", "secure:3128"), ("all_proxy", "socks5://s")]);
        let far = |scheme: &str| proxy(&proxies, &format!("{scheme}://far.example"));
        assert_eq!(far("https").as_deref(), Some("http://secure:3128/"));
        assert_eq!(far("http").as_deref(), Some("socks5://s:1080"));
        assert_eq!(proxy(&of(&[]), "https://far.example"), None);
    }

    #[test]
    fn upper_case_has_precedence_and_an_empty_value_is_none() {
        let both = of(&[("HTTPS_PROXY", "http://up"), ("https_proxy", "http://low")]);
        assert_eq!(proxy(&both, "https://x.y").as_deref(), Some("http://up/"));
        let empty = of(&[("HTTPS_PROXY", ""), ("https_proxy", "http://low")]);
        assert_eq!(proxy(&empty, "https://x.y").as_deref(), Some("http://low/"));
    }

    #[test]
    fn loopback_is_always_reached_directly() {
        for server in [
            "https://127.0.0.1:6443",
            "https://127.9.8.7",
            "https://[::1]:6443",
            "https://[::ffff:127.0.0.1]",
            "https://localhost:1",
            "https://LOCALHOST.",
            "https://a.localhost",
        ] {
            assert!(is_direct("", server), "{server}");
        }
        for server in [
            "https://128.0.0.1",
            "https://localhost.example",
            "https://[::2]",
        ] {
            assert!(!is_direct("", server), "{server}");
        }
    }

    #[test]
    fn no_proxy_is_parsed_as_in_go() {
        for (no_proxy, server, expected) in [
            ("*", "https://far.example", true),
            ("other,*", "https://far.example", true),
            ("far.example", "https://far.example", true),
            ("far.example", "https://api.far.example", true),
            ("far.example", "https://notfar.example", false),
            (".far.example", "https://api.far.example", true),
            (".far.example", "https://far.example", false),
            ("*.far.example", "https://api.far.example", true),
            ("FAR.example", "https://far.EXAMPLE.", true),
            ("far.example:6443", "https://far.example:6443", true),
            ("far.example:443", "https://far.example", true),
            ("far.example:6443", "https://far.example", false),
            ("10.0.0.0/8", "https://10.1.2.3:6443", true),
            ("10.0.0.0/8", "https://11.1.2.3:6443", false),
            ("10.1.2.3", "https://10.1.2.3:6443", true),
            ("10.1.2.3:443", "https://10.1.2.3:6443", false),
            ("fd00::/8", "https://[fd00::1]", true),
            ("[fd00::1]:6443", "https://[fd00::1]:6443", true),
            ("fd00::1", "https://[fd00::1]:6443", true),
            ("a, b ,far.example,", "https://far.example", true),
            ("a b far.example", "https://far.example", true),
            (",, ,", "https://far.example", false),
        ] {
            assert_eq!(is_direct(no_proxy, server), expected, "{no_proxy} {server}");
        }
    }

    #[test]
    fn an_error_names_the_variable_without_the_password() {
        for url in ["socks4://u:s3cret@p:1", "http://u:s3cret@:1", "http://"] {
            let proxies = of(&[("HTTPS_PROXY", url)]);
            let error = proxies.to(&"https://far.example".parse().unwrap());
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with("HTTPS_PROXY names"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
            assert!(!format!("{proxies:?}").contains("s3cret"));
            // A server that does not need the proxy is reached directly.
            assert_eq!(proxy(&proxies, "https://127.0.0.1"), None);
        }
    }

    #[test]
    fn a_child_gets_all_proxy_and_loopback() {
        let proxies = of(&[("ALL_PROXY", "http://p:1"), ("no_proxy", ".corp")]);
        assert_eq!(
            proxies.for_child(&["10.0.0.1"]),
            [
                ("HTTP_PROXY", "http://p:1".to_owned()),
                ("HTTPS_PROXY", "http://p:1".to_owned()),
                (
                    "NO_PROXY",
                    ".corp,localhost,127.0.0.0/8,::1,10.0.0.1".to_owned()
                ),
            ]
        );
        assert!(of(&[("NO_PROXY", "x")]).for_child(&["y"]).is_empty());
    }

    proptest! {
        #[test]
        fn any_no_proxy_is_parsed(no_proxy in ".{0,60}", host in "[a-z]{1,8}\\.[a-z]{2,4}") {
            let server = format!("https://{host}:8443");
            is_direct(&no_proxy, &server);
            let named = format!("{no_proxy},{host}");
            prop_assert!(is_direct(&named, &server));
        }
    }
}
