//! The requests of a plan, made ready: an arrival picks one and clones what it must.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Request, Uri};
use prober::spec::Parts;

use super::names::Names;
use super::plan::{Connections, Plan, PlanError, Template};

/// What a request carries.
pub type Body = Full<Bytes>;

/// The requests of a plan.
pub struct Requests {
    ready: Vec<Ready>,
    /// The weights, summed up to each.
    weights: Vec<u64>,
    names: Names,
}

/// A template, made ready.
pub struct Ready {
    /// As the plan has it.
    pub template: Template,
    /// Its name's number.
    pub name: u16,
    uris: Vec<Uri>,
    headers: HeaderMap,
}

impl Requests {
    /// # Errors
    /// The template that cannot be asked for.
    pub fn of(plan: &Plan) -> Result<Requests, PlanError> {
        let parts = plan.target.parts();
        let parts = parts.map_err(|why| PlanError::new("target.url", why))?;
        let (mut ready, mut weights, mut sum) = (Vec::new(), Vec::new(), 0);
        let mut names = Names::default();
        for template in &plan.templates {
            let of = |why| PlanError::new(format!("the template {:?}", template.name), why);
            sum += u64::from(template.weight);
            weights.push(sum);
            ready.push(Ready {
                name: names.number(&template.name),
                uris: uris(template, plan, &parts).map_err(of)?,
                headers: headers(template, plan, &parts).map_err(of)?,
                template: template.clone(),
            });
        }
        match sum {
            0 => Err(PlanError::new("templates", "weigh nothing together")),
            _ => Ok(Requests {
                ready,
                weights,
                names,
            }),
        }
    }

    /// All names, by their number.
    pub fn names(&self) -> &[String] {
        self.names.listed()
    }

    /// Which one arrival `number` asks for: the same in every run of the plan, so that two
    /// runs differ by their target alone.
    pub fn picked(&self, number: u64) -> usize {
        let sum = self.weights.last().copied().unwrap_or_default();
        let point = below(sum, mixed(number));
        self.weights.partition_point(|weight| *weight <= point)
    }

    /// The one that was picked.
    pub fn ready(&self, picked: usize) -> &Ready {
        &self.ready[picked]
    }
}

impl Ready {
    /// The request that arrival `number` sends.
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

fn uris(template: &Template, plan: &Plan, parts: &Parts) -> Result<Vec<Uri>, String> {
    let scheme = if parts.tls { "https" } else { "http" };
    // HTTP/2 says all in its pseudo-headers (RFC 9113, section 8.3.1); HTTP/1.1 has `Host`.
    let origin = match plan.connections {
        Connections::Http2 { .. } => format!("{scheme}://{}", parts.authority),
        Connections::New | Connections::Kept => String::new(),
    };
    let base = parts.path.path().trim_end_matches('/');
    let uris = template.paths.iter().map(|path| match path.as_bytes() {
        [b'/', ..] => format!("{origin}{base}{path}")
            .parse()
            .map_err(|error| format!("asks for {path:?}: {error}")),
        _ => Err(format!("asks for {path:?}: a path begins with /")),
    });
    let uris: Result<Vec<Uri>, String> = uris.collect();
    match uris {
        Ok(none) if none.is_empty() => Err("has no path".into()),
        uris => uris,
    }
}

fn headers(template: &Template, plan: &Plan, parts: &Parts) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let host = HeaderValue::from_str(&parts.authority).map_err(|error| error.to_string())?;
    match plan.connections {
        Connections::Http2 { .. } => {}
        Connections::Kept => {
            headers.insert(HOST, host);
        }
        Connections::New => {
            headers.insert(HOST, host);
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    headers.insert(USER_AGENT, HeaderValue::from_static("trii-load"));
    headers.extend(template.headers.clone());
    Ok(headers)
}

/// SplitMix64's mixing step (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014): neighbours become unlike.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// An even random number as one below `bound`.
fn below(bound: u64, random: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use prober::Target;

    use super::*;

    fn plan(templates: Vec<Template>) -> Plan {
        Plan::of(Target::of("http://127.0.0.1:1/api/"), vec![], templates)
    }

    #[test]
    fn they_are_picked_by_their_weights() {
        let weighted = |path: &str, weight| Template {
            weight,
            ..Template::get(path)
        };
        let plan = plan(vec![
            weighted("/a", 1),
            weighted("/b", 0),
            weighted("/c", 3),
        ]);
        let requests = Requests::of(&plan).unwrap();
        let mut picked = [0; 3];
        (0..100_000).for_each(|number| picked[requests.picked(number)] += 1);
        assert!((24_500..25_500).contains(&picked[0]), "{picked:?}");
        assert_eq!(picked[1], 0);
    }

    #[test]
    fn they_are_sent_as_the_protocol_has_it() {
        let mut plan = plan(vec![Template::get("/quotes?limit=1")]);
        let request = Requests::of(&plan).unwrap().ready(0).request(0);
        assert_eq!(request.uri(), "/api/quotes?limit=1");
        assert_eq!(request.headers()[HOST], "127.0.0.1:1");
        plan.connections = Connections::Http2 { streams: 8 };
        let request = Requests::of(&plan).unwrap().ready(0).request(0);
        assert_eq!(request.uri(), "http://127.0.0.1:1/api/quotes?limit=1");
        assert!(!request.headers().contains_key(HOST));
        plan.connections = Connections::New;
        let request = Requests::of(&plan).unwrap().ready(0).request(0);
        assert_eq!(request.headers()[CONNECTION], "close");
    }

    #[test]
    fn every_path_of_a_template_has_its_turn() {
        let mut template = Template::get("/quotes/{symbol}");
        template.paths = vec!["/quotes/A".into(), "/quotes/B".into(), "/quotes/C".into()];
        let requests = Requests::of(&plan(vec![template])).unwrap();
        for path in ["/api/quotes/A", "/api/quotes/B", "/api/quotes/C"] {
            let asked = (0..3000).filter(|n| requests.ready(0).request(*n).uri() == path);
            assert!((900..1100).contains(&asked.count()), "{path}");
        }
    }

    #[test]
    fn a_template_that_cannot_be_asked_for_is_named() {
        let mut weightless = Template::get("/a");
        weightless.weight = 0;
        let mut pathless = Template::get("/a");
        pathless.paths.clear();
        for template in [
            weightless,
            pathless,
            Template::get("a"),
            Template::get("/a b"),
        ] {
            assert!(Requests::of(&plan(vec![template])).is_err());
        }
        assert!(Requests::of(&plan(vec![])).is_err());
    }

    #[test]
    fn names_beyond_the_cap_go_together() {
        let many = (0..2000).map(|number| Template::get(&format!("/{number}")));
        let requests = Requests::of(&plan(many.collect())).unwrap();
        assert_eq!(requests.names().len(), 501);
        assert_eq!(requests.ready(1999).name, 0);
    }
}
