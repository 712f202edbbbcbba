//! The two hosts of a platform, among those of its Ingresses.

/// The hosts of the site and of the API, which may be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hosts {
    pub site: String,
    pub api: String,
}

impl Hosts {
    /// Chooses them among `hosts`: the API's is called `api`, and the site's is the first other one.
    /// Without a host, it is `PLATFORM.example`.
    pub fn choose(hosts: &[&str], platform: &str) -> Hosts {
        let is_api = |host: &&&str| {
            let first = host.split('.').next().unwrap_or_default();
            first == "api" || first.starts_with("api-") || first.ends_with("-api")
        };
        let api = hosts.iter().find(is_api);
        let site = hosts.iter().find(|host| Some(*host) != api).or(api);
        let site = site.map_or_else(|| format!("{platform}.example"), |it| (*it).to_owned());
        Hosts {
            api: api.map_or_else(|| site.clone(), |it| (*it).to_owned()),
            site,
        }
    }

    /// Returns the variable of checks with the URL of a host; none for another host. A route
    /// without a host is for all.
    pub fn variable(&self, host: Option<&str>) -> Option<&'static str> {
        match host {
            None => Some("site"),
            Some(host) if host == self.site => Some("site"),
            Some(host) if host == self.api => Some("api"),
            Some(_) => None,
        }
    }

    /// Returns the variable that the API's host has in [`Hosts::variable`].
    pub fn of_api(&self) -> &'static str {
        match self.site == self.api {
            true => "site",
            false => "api",
        }
    }
}
