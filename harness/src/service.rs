//! The platform's six services, by the guide's names.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::run::event::Part;

/// One of the platform's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Quotes and ticks.
    MarketDataService,
    /// Portfolios, positions, orders.
    PortfolioManagerService,
    /// Returns, volatility, drawdown.
    AnalysisEngineService,
    /// The next price.
    MlPredictionService,
    /// The way in: tokens, rate limit, routes.
    ApiGateway,
    /// The page.
    FrontendApp,
}

impl Service {
    /// Every service; each comes after those it calls.
    pub const ALL: [Service; 6] = [
        Service::MarketDataService,
        Service::PortfolioManagerService,
        Service::AnalysisEngineService,
        Service::MlPredictionService,
        Service::ApiGateway,
        Service::FrontendApp,
    ];

    /// The name in the guide, in the cluster and in `x-trii-service`.
    pub fn name(self) -> &'static str {
        match self {
            Service::MarketDataService => "market-data-service",
            Service::PortfolioManagerService => "portfolio-manager-service",
            Service::AnalysisEngineService => "analysis-engine-service",
            Service::MlPredictionService => "ml-prediction-service",
            Service::ApiGateway => "api-gateway",
            Service::FrontendApp => "frontend-app",
        }
    }

    /// The part that it is in a namespace; which Deployment serves may change.
    pub fn in_cluster(self, namespace: &str) -> Part {
        Part {
            name: self.name().to_owned(),
            runs_as: format!("Service {namespace}/{self}"),
            address: format!("{self}.{namespace}"),
            metrics: None,
            log: None,
        }
    }

    /// The service that a part of an environment is, or is a pod of: a pod's name begins with
    /// its service's.
    pub fn of_part(part: &str) -> Option<Service> {
        let is_pod = |it: &Service| {
            let rest = part.strip_prefix(it.name());
            rest.is_some_and(|it| it.is_empty() || it.starts_with('-'))
        };
        Service::ALL.into_iter().find(is_pod)
    }

    /// The variable by which the other services are told this one's URL, where any calls it.
    pub fn url_variable(self) -> Option<&'static str> {
        match self {
            Service::MarketDataService => Some("MARKET_DATA_URL"),
            Service::PortfolioManagerService => Some("PORTFOLIO_MANAGER_URL"),
            Service::AnalysisEngineService => Some("ANALYSIS_ENGINE_URL"),
            Service::MlPredictionService => Some("ML_PREDICTION_URL"),
            Service::ApiGateway | Service::FrontendApp => None,
        }
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Service {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Service::ALL
            .into_iter()
            .find(|service| service.name() == name)
            .ok_or(())
    }
}
