//! What users ask for, by the names that results are kept by.

pub const LOGIN: &str = "POST /api/login";
pub const QUOTES: &str = "GET /api/market-data/quotes";
pub const QUOTE: &str = "GET /api/market-data/quotes/{symbol}";
pub const HISTORY: &str = "GET /api/market-data/quotes/{symbol}/history";
pub const NEW_PORTFOLIO: &str = "POST /api/portfolio-manager/portfolios";
pub const PORTFOLIO: &str = "GET /api/portfolio-manager/portfolios/me";
pub const ORDERS: &str = "POST /api/portfolio-manager/orders";
pub const ANALYSIS: &str = "GET /api/analysis-engine/analysis/symbols/{symbol}";
pub const VALUATION: &str = "GET /api/analysis-engine/analysis/portfolio";
pub const PREDICTIONS: &str = "POST /api/ml-prediction/predictions";

/// All of them.
pub const ALL: [&str; 10] = [
    LOGIN,
    QUOTES,
    QUOTE,
    HISTORY,
    NEW_PORTFOLIO,
    PORTFOLIO,
    ORDERS,
    ANALYSIS,
    VALUATION,
    PREDICTIONS,
];
