//! Checks that Hurl files describe. A request with a title begins a check; requests without one are
//! its further steps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use environments::capability::Capability;
use environments::config::hurl::{GIVEN_VARIABLES, NamedFileError};
use environments::config::{CodedChecks, Config};
use hurl_checks::{Assertion, Entry, HurlFile, Response, Variables};
use kubernetes::Action;
use tokens::TokenClaims;

use super::Smoke;
use crate::{Mismatch, RunResult, Scenario};

/// The checks of a platform.
#[derive(Debug, Default)]
pub struct SmokeChecks {
    files: Vec<CheckFile>,
    pub(super) coded: Vec<CodedChecks>,
    tokens: BTreeMap<String, TokenClaims>,
    services: Vec<String>,
}

#[derive(Debug)]
struct CheckFile {
    file: HurlFile,
    needs: Option<Action>,
}

/// One check: its requests.
type Check<'a> = &'a [Entry];

impl SmokeChecks {
    /// Reads the files that the configuration names, relative to the repository.
    ///
    /// # Errors
    /// A file that cannot be read, or is not valid.
    pub fn read(config: &Config, workspace: &Path) -> Result<SmokeChecks, NamedFileError> {
        let mut checks = SmokeChecks {
            files: Vec::new(),
            coded: config.coded_checks.clone(),
            tokens: config.tokens.clone(),
            services: config.service_names().map(str::to_owned).collect(),
        };
        let known = checks.known_variables();
        for named in &config.checks {
            let file = config.read_hurl(workspace, &named.path, &named.place, &known)?;
            let needs = named.needs;
            checks.files.push(CheckFile { file, needs });
        }
        Ok(checks)
    }

    /// The variables that each file may use.
    fn known_variables(&self) -> BTreeSet<String> {
        let given = GIVEN_VARIABLES.map(str::to_owned);
        let versions = self.services.iter().map(|it| version_variable(it));
        let tokens = self.tokens.keys().cloned();
        given.into_iter().chain(versions).chain(tokens).collect()
    }
}

/// The variable with the version of a service, such as `api_gateway_version`.
fn version_variable(service: &str) -> String {
    format!("{}_version", service.replace('-', "_"))
}

impl CheckFile {
    fn checks(&self) -> Vec<Check<'_>> {
        let starts_check = |_: &Entry, next: &Entry| next.comment().is_none();
        self.file.entries().chunk_by(starts_check).collect()
    }
}

/// Returns a variable that a check reads, does not capture itself, and that has no value.
fn without_value<'a>(check: Check<'a>, variables: &Variables) -> Option<&'a str> {
    let captured = |entries: &[Entry], name: &str| {
        let mut names = entries.iter().flat_map(Entry::captures);
        names.any(|it| it == name)
    };
    let steps = check.iter().enumerate();
    let mut missing = steps.flat_map(|(number, entry)| {
        let missing = entry.without_value(variables);
        missing.filter(move |name| !captured(&check[..number], name))
    });
    missing.next()
}

impl Smoke<'_> {
    /// Runs the checks of all files.
    pub(super) async fn checks(&self, scenario: &mut Scenario<'_>) -> RunResult {
        for file in &self.subject.checks.files {
            self.file(scenario, file).await?;
        }
        Ok(())
    }

    async fn file(&self, scenario: &mut Scenario<'_>, file: &CheckFile) -> RunResult {
        let checks = file.checks();
        let titles: Vec<&str> = checks.iter().map(|check| check[0].title()).collect();
        let capability = file.needs.map(Capability::Allowed);
        if let Some(capability) = capability
            && !scenario.can(capability, &titles).await?
        {
            return Ok(());
        }
        let mut variables = self.variables();
        for check in checks {
            let title = check[0].title();
            match without_value(check, &variables) {
                Some(missing) => {
                    let because = format!(
                        "{{{{{missing}}}}} has no value: the check that captures it did not pass"
                    );
                    scenario.skip(title, &because).await?;
                }
                None => {
                    let observe = self.steps(file.file.path(), check, &mut variables);
                    scenario.check(title, observe).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends the requests of a check, one after the other.
    async fn steps(
        &self,
        path: &Path,
        check: Check<'_>,
        variables: &mut Variables,
    ) -> Result<((), String), Mismatch> {
        let mut held = 0;
        let mut last = String::new();
        for entry in check {
            let (response, assertions) = self.step(path, entry, variables).await?;
            held += assertions.len();
            last = response.status.as_u16().to_string();
        }
        let requests = match check.len() {
            1 => last,
            requests => format!("{requests} requests, the last {last}"),
        };
        Ok(((), format!("{requests}; {held} assertions hold")))
    }

    /// Sends one request, again while its assertions fail if it has the option `retry`.
    async fn step(
        &self,
        path: &Path,
        entry: &Entry,
        variables: &mut Variables,
    ) -> Result<(Response, Vec<Assertion>), Mismatch> {
        let options = entry.options();
        tokio::time::sleep(options.delay).await;
        let mut retries = options.retry;
        loop {
            let sent = self.send(path, entry, variables).await;
            if sent.is_ok() || retries == 0 {
                return sent;
            }
            retries -= 1;
            tokio::time::sleep(options.retry_interval).await;
        }
    }

    async fn send(
        &self,
        path: &Path,
        entry: &Entry,
        variables: &mut Variables,
    ) -> Result<(Response, Vec<Assertion>), Mismatch> {
        let at = |line: usize| format!("{}:{line}", path.display());
        let curl = self.client.reaching(&entry.curl(variables));
        let mismatch = |line: usize, expected: String, seen: String| Mismatch {
            expected,
            seen,
            look_at: at(line),
            next: curl.clone(),
        };
        let request = entry.request(variables);
        let request = request.map_err(|error| {
            let expected = "a request that can be sent".to_owned();
            mismatch(error.line, expected, error.message)
        })?;
        let response = self.client.exchange(request).await;
        let response = response.map_err(|seen| {
            mismatch(
                entry.line(),
                "an answer".to_owned(),
                variables.redact(&seen),
            )
        })?;
        let assertions = entry.evaluate(&response, variables);
        let failed = assertions
            .iter()
            .find_map(|it| Some((it, it.failure.as_ref()?)));
        match failed {
            None => Ok((response, assertions)),
            Some((assertion, failure)) => {
                let expected = format!("{} ({})", assertion.text.trim(), failure.expected);
                Err(mismatch(assertion.line, expected, failure.seen.clone()))
            }
        }
    }

    /// The variables of a file before its first request.
    fn variables(&self) -> Variables {
        let mut variables = Variables::new();
        // Not the environment's own URLs: from inside a cluster, the entry is a tunnel.
        let (environment, entry) = (self.subject.environment, self.subject.entry);
        variables.insert("site", entry.url(&environment.site_host));
        variables.insert("api", entry.url(&environment.api_host));
        let unique = format!("{:06X}", rand::random::<u32>() & 0x00ff_ffff);
        for service in &self.subject.checks.services {
            variables.insert(version_variable(service), self.subject.version(service));
        }
        let password = self.subject.credentials.demo_password.clone();
        variables.insert_secret("demo_password", password);
        for (name, claims) in &self.subject.checks.tokens {
            let subject = claims.subject.replace("{unique}", &unique);
            variables.insert_secret(name, self.tokens.token(&subject, &claims.role));
        }
        variables.insert("unique", unique);
        variables
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use miette::Diagnostic;

    use base::entry_point::EntryPoint;
    use base::home::Home;
    use base::process::identity::ProcessIdentity;
    use environments::environment::{Credentials, Environment};

    use super::*;
    use crate::Subject;

    fn workspace() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    fn config_with(checks: &str) -> Config {
        let shipped = include_str!("../../../harness.toml");
        let text = shipped.replacen("[[checks]]", &format!("{checks}\n\n[[checks]]"), 1);
        Config::parse(Path::new("harness.toml"), &text).unwrap()
    }

    #[test]
    fn the_shipped_files_are_valid_and_their_checks_have_titles() {
        let checks = SmokeChecks::read(&config_with(""), workspace()).unwrap();
        assert_eq!(checks.files.len(), 3);
        let titles = checks.files.iter().flat_map(CheckFile::checks);
        let titles: Vec<&str> = titles.map(|check| check[0].title()).collect();
        insta::assert_snapshot!(titles.join("\n"));
    }

    #[test]
    fn the_files_of_another_platform_are_valid() {
        let config = Config::read(&workspace().join("fixtures/podinfo/harness.toml")).unwrap();
        let checks = SmokeChecks::read(&config, workspace()).unwrap();
        assert_eq!((checks.files.len(), checks.coded.len()), (2, 0));
    }

    fn environment(entry: EntryPoint) -> Environment {
        Environment {
            name: "mine".parse().unwrap(),
            target: "kind".into(),
            run: "run".into(),
            run_folder: "run".into(),
            since: jiff::Timestamp::UNIX_EPOCH,
            supervisor: ProcessIdentity::own(),
            entry,
            cluster: None,
            releases: None,
            site_host: "trii.co".into(),
            api_host: "api.trii.co".into(),
            version: "v1".into(),
            services: Vec::new(),
            ready_urls: BTreeMap::new(),
            capabilities: BTreeSet::new(),
            parts: Vec::new(),
            lost: Vec::new(),
            stays: true,
        }
    }

    /// From inside a cluster, the entry is a tunnel and not the environment's ingress.
    #[test]
    fn requests_go_to_the_entry_of_the_subject() {
        let [ingress, tunnel] = ["127.0.0.1:1", "127.0.0.1:2"].map(|it| it.parse().unwrap());
        let environment = environment(EntryPoint::plain(ingress));
        let subject = Subject {
            environment: &environment,
            versions: BTreeMap::new(),
            entry: &environment.entry.connected_to(tunnel),
            credentials: &Credentials {
                jwt_secret: "key".into(),
                demo_password: "open sesame".into(),
            },
            version_sources: &config_with("").versions,
            checks: &SmokeChecks::read(&config_with(""), workspace()).unwrap(),
            home: &Home::new(Path::new("home")),
            check_deadline: Duration::from_secs(1),
            sabotage: false,
        };
        let smoke = super::super::prepare(&subject).unwrap();
        let variables = smoke.variables();
        let page = &subject.checks.files[0].file.entries()[1];
        let url = page.request(&variables).unwrap().uri().to_string();
        assert_eq!(url, format!("{}/", subject.entry.url("trii.co")));
        let curl = smoke.client.reaching(&page.curl(&variables));
        assert!(
            curl.contains(&subject.entry.curl_options("trii.co")),
            "{curl}"
        );
        assert!(curl.contains("127.0.0.1:2"), "{curl}");
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line() {
        let folder = tempfile::tempdir_in(workspace().join("target")).unwrap();
        let refused = |name: &str, text: Option<&str>| {
            let path = folder.path().join(name);
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let config = config_with(&format!("[[checks]]\nfile = {path:?}"));
            let error = SmokeChecks::read(&config, workspace()).unwrap_err();
            let help = error.help().map(|it| it.to_string()).unwrap_or_default();
            format!("{error}\n  help: {help}").replace(&folder.path().display().to_string(), "DIR")
        };
        let refusals = [
            refused("missing.hurl", None),
            refused("syntax.hurl", Some("GET {{site}}/\nHTTP twohundred\n")),
            refused("capture.hurl", Some("GET {{site}}/{{tokn}}\nHTTP 200\n")),
        ];
        insta::assert_snapshot!(refusals.join("\n\n"));
    }
}
