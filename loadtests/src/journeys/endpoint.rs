//! The endpoints of the requests of journeys in code, by their names in results.

pub const LOGIN: &str = "POST /api/login";
pub const NEW_PORTFOLIO: &str = "POST /api/portfolio-manager/portfolios";
pub const PORTFOLIO: &str = "GET /api/portfolio-manager/portfolios/me";
pub const ORDERS: &str = "POST /api/portfolio-manager/orders";
pub const VALUATION: &str = "GET /api/analysis-engine/analysis/portfolio";

/// All endpoints.
pub const ALL: [&str; 5] = [LOGIN, NEW_PORTFOLIO, PORTFOLIO, ORDERS, VALUATION];
