//! `deploy`, `scenario run`, `load run`, `perf` and `e2e` on a remote target, which is there and stays.

use std::path::{Path, PathBuf};
use std::pin::pin;

use harness::config::Target;
use harness::config::remote::Action;
use harness::exit::ExitCode;
use harness::interrupts::Interrupts;
use harness::remote::{Remote, RemoteError, Site};
use harness::run::Run;
use harness::run::event::{Happening, Stage, StageResult};
use tokio_util::sync::CancellationToken;

use super::deploy::{self, NotDone, helm};
use super::load;
use super::perf::{self, Ready, Step};
use super::verify::{self, Selection};
use super::workplace::{Workplace, conclude, interrupts, provision_if};
use crate::cli::{Common, Deploy, E2e};
use crate::console::Console;
use crate::problem::Problem;

/// What a command does there once it has looked.
struct Work<'a> {
    /// As the run is called.
    verb: &'static str,
    /// Why, for the plan.
    why: String,
    /// The version to deploy, and the helm to do it.
    deploy: Option<(&'a str, PathBuf)>,
    /// What is done to the platform as it is there then.
    then: Option<Then<'a>>,
}

impl<'a> Work<'a> {
    /// What is there is not deployed anew first.
    fn as_it_is(verb: &'static str, then: Then<'a>) -> Work<'a> {
        Work {
            verb,
            why: "which is there".into(),
            deploy: None,
            then: Some(then),
        }
    }

    /// What the target must permit for it.
    fn actions(&self) -> Vec<Action> {
        let deploys = match self.then {
            Some(Then::Perf(order, _)) => order.purpose.deploys(),
            _ => self.deploy.is_some(),
        };
        let loads = matches!(self.then, Some(Then::Load(_) | Then::Perf(..)));
        let needed = [(Action::Deploy, deploys), (Action::Load, loads)];
        needed
            .into_iter()
            .filter(|(_, is)| *is)
            .map(|(action, _)| action)
            .collect()
    }
}

/// What is done to a platform that is there.
#[derive(Clone, Copy)]
enum Then<'a> {
    /// It is proven.
    Prove(&'a Selection),
    /// It is put under load.
    Load(&'a load::Order<'a>),
    /// It is put under load again and again, in versions that are deployed by a helm.
    Perf(&'a perf::Order<'a>, Option<&'a Path>),
}

/// The remote target that is meant, if it is one.
pub fn site(place: &Workplace) -> Option<Site<'_>> {
    match place.target() {
        Target::Local(_) | Target::Kind(_) => None,
        Target::Remote(target) => Some(Site {
            name: &place.target_name,
            target,
            config: &place.config,
            workspace: &place.workspace,
            home: &place.home,
        }),
    }
}

/// Refuses to stand up, or take down, what is there.
pub fn refuse(place: &Workplace, verb: &'static str) -> Result<(), Problem> {
    match site(place) {
        Some(site) => Err(problem(RemoteError::not_ours(site.name, verb))),
        None => Ok(()),
    }
}

/// Deploys a version, or shows what that would change.
pub async fn deploy(
    place: &Workplace,
    site: Site<'_>,
    arguments: &Deploy,
) -> Result<ExitCode, Problem> {
    let configured = &place.config.platform.version;
    let version = arguments.version.as_ref().unwrap_or(configured);
    if arguments.dry_run {
        let mut interrupts = interrupts()?;
        return tokio::select! {
            shown = show(place, site, version) => shown,
            code = interrupts.next() => Ok(code),
        };
    }
    let work = Work {
        verb: "deploy",
        why: "which is there".into(),
        deploy: Some((version, helm(place)?)),
        then: None,
    };
    let code = perform(place, site, work, &arguments.named.common).await?;
    if code == ExitCode::Held {
        say!("next:    cargo xtask smoke --target {}", site.name);
    }
    Ok(code)
}

/// No more than reading: the server renders the release, and forgets it.
async fn show(place: &Workplace, site: Site<'_>, version: &str) -> Result<ExitCode, Problem> {
    let helm = helm(place)?;
    let difference = async {
        let remote = site.open("dry-run", &[]).await.map_err(problem)?;
        let difference = remote.difference(&helm, version).await;
        difference.map_err(|error| Problem::new(error.exit_code(), error))
    };
    let difference = Console::waiting("asking the cluster what would change", difference).await?;
    print_line!("{}", difference.trim_end());
    Ok(ExitCode::Held)
}

/// Proves the platform as it is there. The run is called `verb`.
pub async fn prove(
    place: &Workplace,
    site: Site<'_>,
    verb: &'static str,
    selection: &Selection,
    common: &Common,
) -> Result<ExitCode, Problem> {
    let work = Work::as_it_is(verb, Then::Prove(selection));
    perform(place, site, work, common).await
}

/// Puts load on the platform as it is there.
pub async fn load(
    place: &Workplace,
    site: Site<'_>,
    order: &load::Order<'_>,
    common: &Common,
) -> Result<ExitCode, Problem> {
    let work = Work::as_it_is("load", Then::Load(order));
    perform(place, site, work, common).await
}

/// Holds runs of load there against each other.
pub async fn perf(
    place: &Workplace,
    site: Site<'_>,
    order: &perf::Order<'_>,
    common: &Common,
) -> Result<ExitCode, Problem> {
    let helm = match order.purpose.deploys() {
        true => Some(helm(place)?),
        false => None,
    };
    let work = Work::as_it_is("perf", Then::Perf(order, helm.as_deref()));
    perform(place, site, work, common).await
}

/// Deploys the configured version where that is allowed, and proves the platform.
pub async fn e2e(
    place: &Workplace,
    site: Site<'_>,
    arguments: &E2e,
    selection: &Selection,
) -> Result<ExitCode, Problem> {
    let mut interrupts = interrupts()?;
    if let Err(code) = provision_if(arguments.provision, place, &mut interrupts).await? {
        return Ok(code);
    }
    drop(interrupts);
    let version = place.config.platform.version.as_str();
    let work = match site.permits(Action::Deploy) {
        Ok(()) => Work {
            verb: "e2e",
            why: "which is there and stays".into(),
            deploy: Some((version, helm(place)?)),
            then: Some(Then::Prove(selection)),
        },
        Err(refusal) => Work {
            verb: "e2e",
            why: format!("which is there and stays; proven as it is: {refusal}"),
            deploy: None,
            then: Some(Then::Prove(selection)),
        },
    };
    perform(place, site, work, &arguments.named.common).await
}

fn problem(error: RemoteError) -> Problem {
    Problem::new(error.exit_code(), error)
}

/// A run there, from its plan to its report.
async fn perform(
    place: &Workplace,
    site: Site<'_>,
    work: Work<'_>,
    common: &Common,
) -> Result<ExitCode, Problem> {
    let mut interrupts = interrupts()?;
    let name = site.name.parse().map_err(Problem::usage)?;
    let mut run = place.start_run_on(work.verb, site.name, &name, &work.why)?;
    let course = Course {
        run: &mut run,
        place,
        site,
        interrupts: &mut interrupts,
    };
    let code = match course.all(&work).await? {
        Ok(()) => ExitCode::Held,
        Err(code) => code,
    };
    run.finish(code).map_err(Problem::no_environment)?;
    conclude(&run, code, common.json)
}

/// A run under way.
struct Course<'a> {
    run: &'a mut Run,
    place: &'a Workplace,
    site: Site<'a>,
    interrupts: &'a mut Interrupts,
}

impl<'a> Course<'a> {
    async fn all(mut self, work: &Work<'_>) -> Step<()> {
        let remote = match self.preflight(work).await? {
            Ok(remote) => remote,
            Err(code) => return Ok(Err(code)),
        };
        if let Some((version, helm)) = &work.deploy
            && let Err(code) = self.deploy(&remote, version, helm).await?
        {
            return Ok(Err(code));
        }
        match work.then {
            Some(then) => self.then(&remote, then).await,
            None => Ok(Ok(())),
        }
    }

    /// The guard rails, and whether the cluster answers.
    async fn preflight(&mut self, work: &Work<'_>) -> Step<Remote<'a>> {
        self.run.begin(Stage::Preflight)?;
        let site = self.site;
        let actions = work.actions();
        let looked = tokio::select! {
            looked = site.open(self.run.id(), &actions) => looked,
            code = self.interrupts.next() => return self.called_off(code),
        };
        let remote = match looked {
            Ok(remote) => remote,
            Err(error) => return self.fail(&error),
        };
        let found = format!(
            "Kubernetes {} at {}, as the target says; namespace {}",
            remote.kubernetes,
            site.target.server.as_str().trim_end_matches('/'),
            site.target.namespace
        );
        self.run.note(Stage::Preflight, found)?;
        self.run.end_stages(StageResult::Done)?;
        Ok(Ok(remote))
    }

    /// The first signal calls it off and waits for helm; a second one leaves at once.
    async fn deploy(&mut self, remote: &Remote<'_>, version: &str, helm: &Path) -> Step<()> {
        let interrupts = &mut *self.interrupts;
        let deploying = async |progress: &(dyn Fn(&str) + Sync)| {
            let called_off = CancellationToken::new();
            let mut deploying = pin!(remote.deploy(helm, version, &called_off, progress));
            let code = tokio::select! {
                deployed = &mut deploying => return deployed.map_err(|error| {
                    NotDone::Failed(error.exit_code(), error.failure(remote.cluster()))
                }),
                code = interrupts.next() => code,
            };
            called_off.cancel();
            tokio::select! {
                _ = deploying => {}
                _ = interrupts.next() => {}
            }
            Err(NotDone::CalledOff(code))
        };
        Ok(deploy::stage(self.run, version, deploying).await?)
    }

    async fn then(&mut self, remote: &Remote<'_>, then: Then<'_>) -> Step<()> {
        match then {
            Then::Prove(selection) => match self.find(remote, Stage::Verify).await? {
                Ok(there) => self.prove(&there, selection).await,
                Err(code) => Ok(Err(code)),
            },
            Then::Load(order) => match self.find(remote, Stage::Load).await? {
                Ok(there) => self.load(&there, order).await,
                Err(code) => Ok(Err(code)),
            },
            Then::Perf(order, helm) => self.perf(remote, order, helm).await,
        }
    }

    async fn load(&mut self, there: &Ready, order: &load::Order<'_>) -> Step<()> {
        let ground = load::Ground {
            environment: &there.environment,
            credentials: &there.credentials,
        };
        let loaded = load::stage(self.run, self.place, order, ground, self.interrupts);
        Ok(loaded.await?)
    }

    /// What is there now, and for load, that its site is the cluster's; where it cannot be
    /// told, `stage` has failed.
    async fn find(&mut self, remote: &Remote<'_>, stage: Stage) -> Step<Ready> {
        let found = async {
            let environment = remote.environment(self.run.id(), self.run.folder().to_owned());
            let environment = environment.await?;
            if stage == Stage::Load {
                remote.must_serve(&environment).await?;
            }
            Ok::<_, RemoteError>(Ready {
                environment,
                credentials: remote.credentials().await?,
            })
        };
        match found.await {
            Ok(found) => Ok(Ok(found)),
            Err(error) => {
                self.run.begin(stage)?;
                self.fail(&error)
            }
        }
    }

    /// Each run of the version that it needs, which stays there after the last one.
    async fn perf(
        &mut self,
        remote: &Remote<'_>,
        order: &perf::Order<'_>,
        helm: Option<&Path>,
    ) -> Step<()> {
        let (place, site) = (self.place, self.site);
        let mut deployed = None;
        let there = async |run: &mut Run, interrupts: &mut Interrupts, version: Option<&str>| {
            let mut course = Course {
                run,
                place,
                site,
                interrupts,
            };
            if let (Some(version), Some(helm)) = (version, helm) {
                if let Err(code) = course.deploy(remote, version, helm).await? {
                    return Ok(Err(code));
                }
                deployed = Some(version.to_owned());
            }
            course.find(remote, Stage::Load).await
        };
        let ended = perf::course(self.run, place, order, self.interrupts, there).await?;
        if let Some(version) = deployed {
            let text = format!(
                "the last version that was deployed whole to {}: {version}",
                site.name
            );
            self.run.note(Stage::Deploy, text)?;
        }
        Ok(ended)
    }

    async fn prove(&mut self, there: &Ready, selection: &Selection) -> Step<()> {
        let Ready {
            environment,
            credentials,
        } = there;
        let proven = verify::prove(self.run, self.place, environment, credentials, selection);
        let interrupted = tokio::select! {
            proven = proven => { proven?; None }
            code = self.interrupts.next() => Some(code),
        };
        if let Some(code) = interrupted {
            let interrupts = &mut *self.interrupts;
            verify::leave(self.run, self.place, environment, selection, interrupts).await;
            return self.called_off(code);
        }
        let checks = self.run.checks();
        self.run.end_stages(StageResult::of_checks(checks))?;
        Ok(match ExitCode::of_checks(checks) {
            ExitCode::Held => Ok(()),
            code => Err(code),
        })
    }

    fn called_off<T>(&mut self, code: ExitCode) -> Step<T> {
        self.run.end_stages(StageResult::Interrupted)?;
        Ok(Err(code))
    }

    fn fail<T>(&mut self, error: &RemoteError) -> Step<T> {
        let failure = error.failure(self.site.name);
        self.run.record(Happening::Failed { failure })?;
        self.run.end_stages(StageResult::Failed)?;
        Ok(Err(error.exit_code()))
    }
}
