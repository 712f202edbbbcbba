//! The requests of a plan. They are prepared: each arrival only picks and clones one.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Request, Uri};
use prober::spec::UrlParts;

use super::plan::{ConnectionMode, LoadPlan, PlanError, Template};
use crate::names::Names;

/// The body of a request.
pub type Body = Full<Bytes>;

/// The requests of a plan.
pub struct RequestTemplates {
    prepared: Vec<PreparedRequest>,
    /// The cumulative weights.
    weights: Vec<u64>,
    names: Names,
}

/// A template with its URIs and headers.
pub struct PreparedRequest {
    /// The plan's template.
    pub template: Template,
    /// The number of its name.
    pub name: u16,
    uris: Vec<Uri>,
    headers: HeaderMap,
}

impl RequestTemplates {
    /// # Errors
    /// The first invalid template.
    pub fn of(plan: &LoadPlan) -> Result<RequestTemplates, PlanError> {
        let parts = plan.target.parts();
        let parts = parts.map_err(|reason| PlanError::new("target.url", reason))?;
        let (mut prepared, mut weights, mut sum) = (Vec::new(), Vec::new(), 0);
        let mut names = Names::default();
        for template in &plan.templates {
            let invalid = |why| PlanError::new(format!("the template {:?}", template.name), why);
            sum += u64::from(template.weight);
            weights.push(sum);
            prepared.push(PreparedRequest {
                name: names.number(&template.name),
                uris: uris(template, plan, &parts).map_err(invalid)?,
                headers: headers(template, plan, &parts).map_err(invalid)?,
                template: template.clone(),
            });
        }
        match sum {
            0 => Err(PlanError::new("templates", "have no weight")),
            _ => Ok(RequestTemplates {
                prepared,
                weights,
                names,
            }),
        }
    }

    /// Returns all names, by number.
    pub fn names(&self) -> &[String] {
        self.names.listed()
    }

    /// Returns the index of the request that arrival `number` sends. It is the same in every run of
    /// the plan: two runs differ only by their target.
    pub fn picked(&self, number: u64) -> usize {
        let sum = self.weights.last().copied().unwrap_or_default();
        let point = below(sum, mixed(number));
        self.weights.partition_point(|weight| *weight <= point)
    }

    /// Returns the request with this index.
    pub fn prepared(&self, picked: usize) -> &PreparedRequest {
        &self.prepared[picked]
    }
}

impl PreparedRequest {
    /// Returns the request that arrival `number` sends.
    pub fn request(&self, number: u64) -> Request<Body> {
        let at = match self.uris.len() {
            1 => 0,
            several => below(several as u64, mixed(!number)) as usize,
        };
        let mut request = Request::new(Full::new(self.template.body.clone()));
        *request.method_mut() = self.template.method.clone();
        *request.uri_mut() = self.uris[at].clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

fn uris(template: &Template, plan: &LoadPlan, parts: &UrlParts) -> Result<Vec<Uri>, String> {
    let scheme = if parts.tls { "https" } else { "http" };
    // HTTP/2 has pseudo-headers (RFC 9113, section 8.3.1); HTTP/1.1 has `Host`.
    let origin = match plan.connections {
        ConnectionMode::Http2 { .. } => format!("{scheme}://{}", parts.authority),
        ConnectionMode::New | ConnectionMode::KeepAlive => String::new(),
    };
    let base = parts.path.path().trim_end_matches('/');
    let uris = template.paths.iter().map(|path| match path.as_bytes() {
        [b'/', ..] => format!("{origin}{base}{path}")
            .parse()
            .map_err(|error| format!("has the path {path:?}: {error}")),
        _ => Err(format!("has the path {path:?}: a path begins with /")),
    });
    match template.paths.is_empty() {
        true => Err("has no path".into()),
        false => uris.collect(),
    }
}

fn headers(template: &Template, plan: &LoadPlan, parts: &UrlParts) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let host = HeaderValue::from_str(&parts.authority).map_err(|error| error.to_string())?;
    if !matches!(plan.connections, ConnectionMode::Http2 { .. }) {
        headers.insert(HOST, host);
    }
    if plan.connections == ConnectionMode::New {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(USER_AGENT, HeaderValue::from_static("trii-load"));
    headers.extend(template.headers.clone());
    Ok(headers)
}

/// SplitMix64's mixing step (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014): close numbers become unrelated.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Maps a uniform random number to one below `bound`.
fn below(bound: u64, random: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use prober::ProbeTarget;

    use super::*;

    fn plan(templates: Vec<Template>) -> LoadPlan {
        LoadPlan::of(
            ProbeTarget::of("http://127.0.0.1:1/api/"),
            vec![],
            templates,
        )
    }

    #[test]
    fn requests_are_picked_by_their_weights() {
        let weighted = |path: &str, weight| Template {
            weight,
            ..Template::get(path)
        };
        let plan = plan(vec![
            weighted("/a", 1),
            weighted("/b", 0),
            weighted("/c", 3),
        ]);
        let requests = RequestTemplates::of(&plan).unwrap();
        let mut picked = [0; 3];
        (0..100_000).for_each(|number| picked[requests.picked(number)] += 1);
        assert!((24_500..25_500).contains(&picked[0]), "{picked:?}");
        assert_eq!(picked[1], 0);
    }

    #[test]
    fn requests_have_the_headers_of_their_protocol() {
        let mut plan = plan(vec![Template::get("/quotes?limit=1")]);
        let request = RequestTemplates::of(&plan).unwrap().prepared(0).request(0);
        assert_eq!(request.uri(), "/api/quotes?limit=1");
        assert_eq!(request.headers()[HOST], "127.0.0.1:1");
        plan.connections = ConnectionMode::Http2 { streams: 8 };
        let request = RequestTemplates::of(&plan).unwrap().prepared(0).request(0);
        assert_eq!(request.uri(), "http://127.0.0.1:1/api/quotes?limit=1");
        assert!(!request.headers().contains_key(HOST));
        plan.connections = ConnectionMode::New;
        let request = RequestTemplates::of(&plan).unwrap().prepared(0).request(0);
        assert_eq!(request.headers()[CONNECTION], "close");
    }

    #[test]
    fn the_paths_of_a_template_are_picked_equally() {
        let mut template = Template::get("/quotes/{symbol}");
        template.paths = vec!["/quotes/A".into(), "/quotes/B".into(), "/quotes/C".into()];
        let requests = RequestTemplates::of(&plan(vec![template])).unwrap();
        for path in ["/api/quotes/A", "/api/quotes/B", "/api/quotes/C"] {
            let sent = (0..3000).filter(|n| requests.prepared(0).request(*n).uri() == path);
            assert!((900..1100).contains(&sent.count()), "{path}");
        }
    }

    #[test]
    fn an_invalid_template_is_refused() {
        let mut weightless = Template::get("/a");
        weightless.weight = 0;
        let mut pathless = Template::get("/a");
        pathless.paths.clear();
        let [relative, space] = ["a", "/a b"].map(Template::get);
        for template in [weightless, pathless, relative, space] {
            assert!(RequestTemplates::of(&plan(vec![template])).is_err());
        }
        assert!(RequestTemplates::of(&plan(vec![])).is_err());
    }

    #[test]
    fn templates_beyond_the_limit_share_a_name() {
        let many = (0..2000).map(|number| Template::get(&format!("/{number}")));
        let requests = RequestTemplates::of(&plan(many.collect())).unwrap();
        assert_eq!(requests.names().len(), 501);
        assert_eq!(requests.prepared(1999).name, 0);
    }
}
